"""The pictures of a reward model's quality: accuracy, calibration, and the best-of-n curve.

Same rules as the evaluation's pictures: no global figure state, equal numbers give equal bytes.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.reward.best_of_n import BestOfN
from models.reward.calibration import MarginBin
from models.reward.quality import PairQuality
from models.statistics.intervals import Interval
from tasks.reports.style import (
    BLUE,
    INK,
    ORANGE,
    QUIET,
    add_title,
    new_figure,
    save_png,
    say_empty,
    style_axes,
)

_SIDES = {"longer": "chosen is\nlonger", "equal": "equally\nlong", "shorter": "chosen is\nshorter"}


def plot_accuracy(quality: PairQuality, path: Path) -> None:
    """Draw the accuracy by which side is longer, beside the accuracy by margin."""
    figure = new_figure(8.0, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    style_axes(left, "By length", "", "ranked right (%)")
    groups = quality.by_length
    rules = {"longer": 100.0, "equal": 50.0, "shorter": 0.0}
    for place, group in enumerate(groups):
        left.plot(
            [place - 0.32, place + 0.32], [rules[group.name]] * 2, color=ORANGE, linewidth=2.2,
            linestyle=(0, (2, 1)), label="the longer one wins" if place == 0 else None,
        )  # fmt: skip
        _draw_share(left, place, group.accuracy, group.pairs, 0.64)
    left.set_xticks(range(len(groups)), [_SIDES[group.name] for group in groups])
    left.set_xlim(-0.6, len(groups) - 0.4)
    left.grid(False, axis="x")
    style_axes(right, "By margin, bins of equally many pairs", "|score difference| in the bin", "")
    for place, one in enumerate(quality.bins):
        _draw_share(right, place, one.accuracy, None, 0.8)
    edges = [one.low for one in quality.bins] + [one.high for one in quality.bins[-1:]]
    shown = range(0, len(edges), max(1, math.ceil(len(edges) / 7)))
    right.set_xticks([place - 0.5 for place in shown], [f"{edges[place]:.2g}" for place in shown])
    right.grid(False, axis="x")
    for axes in (left, right):
        axes.axhline(50, color=QUIET, linewidth=1.0, linestyle=":")
        axes.set_ylim(0, 112)
        axes.set_yticks(range(0, 101, 20))
    figure.legend(loc="outside lower center", fontsize=10, frameon=False, labelcolor=INK)
    accuracy = quality.accuracy
    figure.suptitle(
        f"The reward model ranks {accuracy.mean:.1%} of {quality.pairs} held-out pairs right "
        f"[{accuracy.low:.1%}, {accuracy.high:.1%}]",
        fontsize=12, fontweight="bold", color=INK,
    )  # fmt: skip
    save_png(figure, path)


def plot_calibration(quality: PairQuality, path: Path) -> None:
    """Draw the accuracy against the confidence, with the pairs of each bin below."""
    figure = new_figure(8.0, 5.6)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    style_axes(top, "", "", "ranked right (%)")
    style_axes(below, "", "confidence: sigmoid(|score difference|) (%)", "pairs per\npoint")
    below.set_xlim(49, 101)
    if math.isfinite(quality.confidence):
        _draw_reliability(top, quality)
        _draw_spread(below, quality.bins)
    else:
        say_empty(top)
    add_title(figure, "Does its accuracy match its confidence?")
    save_png(figure, path)


def plot_best_of_n(curves: Mapping[tuple[str, str], BestOfN], path: Path) -> None:
    """Draw each judge's opinion of the best of n samples, one panel per judge.

    Args:
        curves: By name of the judge and unit of its numbers; at least one, all up to the same n.
    """
    figure = new_figure(8.0, 5.2)
    for index, ((judge, unit), curve) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1)
        style_axes(axes, "", "n (samples per prompt)", f"{judge} ({unit})")
        _draw_curve(axes, curve, few=len(curves) > 1)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, fontsize=10, frameon=False,
            labelcolor=INK,
        )  # fmt: skip
    add_title(figure, "The reward model picks the best of n SFT samples")
    save_png(figure, path)


def _draw_reliability(axes: Any, quality: PairQuality) -> None:
    sure = np.array([100 * one.confidence for one in quality.bins])
    shares = [one.accuracy for one in quality.bins]
    right, low, high = (
        100 * np.array([getattr(s, k) for s in shares]) for k in ("mean", "low", "high")
    )
    axes.plot([50, 100], [50, 100], color=QUIET, linestyle="--", label="perfectly calibrated")
    axes.vlines(
        sure, np.minimum(sure, right), np.maximum(sure, right), color=ORANGE, alpha=0.35,
        linewidth=6, label="gap",
    )  # fmt: skip
    axes.errorbar(
        sure, right, yerr=np.maximum([right - low, high - right], 0), color=BLUE, marker="o",
        markersize=5, linewidth=1.6, elinewidth=1.0, capsize=3,
        label="bins of equally many pairs, 95% interval",
    )  # fmt: skip
    axes.set_ylim(min(45.0, float(low.min())) - 3, 103)
    axes.legend(fontsize=10, frameon=True, labelcolor=INK, loc="lower right", edgecolor="none")
    axes.set_title(
        f"Expected calibration error {quality.calibration_error:.3f}\n"
        f"(noise alone: {quality.calibrated_error:.3f})",
        fontsize=10, loc="right", color=QUIET,
    )  # fmt: skip


def _draw_spread(axes: Any, bins: Sequence[MarginBin]) -> None:
    ends = 100 / (1 + np.exp(-np.array([[one.low, one.high] for one in bins])))
    widths = np.maximum(ends[:, 1] - ends[:, 0], 0.2)  # a bin of equal margins has no width
    pairs = np.array([one.pairs for one in bins])
    axes.bar(ends[:, 0], pairs / widths, width=widths, align="edge", color=BLUE, alpha=0.6)


def _draw_curve(axes: Any, curve: BestOfN, *, few: bool) -> None:
    n = np.arange(1, len(curve.judged) + 1)
    judged = np.array([[one.mean, one.low, one.high] for one in curve.judged])
    axes.set_xscale("log", base=2)
    powers = [2**power for power in range(len(n).bit_length())]
    axes.set_xticks(powers, [str(power) for power in powers])
    axes.minorticks_off()
    if not np.isfinite(judged[:, 0]).any():
        say_empty(axes)
        return
    ceiling = {"color": QUIET, "linestyle": "--", "linewidth": 1.4}
    axes.plot(n, curve.ceiling, label="the judge's own choice", **ceiling)
    axes.fill_between(n, judged[:, 1], judged[:, 2], color=BLUE, alpha=0.15, linewidth=0)
    choice = {"color": BLUE, "marker": "o", "markersize": 4, "linewidth": 1.8}
    axes.plot(n, judged[:, 0], label="reward model's choice, 95%", **choice)
    axes.axhline(judged[0, 0], color=ORANGE, linestyle=":", linewidth=1.6, label="random choice")
    above = axes.secondary_xaxis("top")
    above.minorticks_off()
    shown = powers[1::2] if few else powers[1:]
    above.set_xticks(shown, [f"{curve.kl[power - 1]:.2f}" for power in shown])
    above.set_xlabel("KL to the SFT model (nats)", fontsize=10, color=QUIET)
    above.tick_params(labelsize=10, colors=QUIET, length=3)
    above.spines["top"].set_color(QUIET)


def _draw_share(axes: Any, place: float, share: Interval, pairs: int | None, width: float) -> None:
    if math.isfinite(share.mean):
        axes.bar(place, 100 * share.mean, width=width, color=BLUE, alpha=0.6)
        axes.vlines(place, 100 * share.low, 100 * share.high, color=INK, linewidth=1.2)
    if pairs is not None:
        text = f"{pairs} pair{'' if pairs == 1 else 's'}"
        axes.text(place, 104, text, ha="center", fontsize=10, color=QUIET)
