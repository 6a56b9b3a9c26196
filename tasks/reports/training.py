"""The evaluation's pictures: losses of every stage, score against KL, SFT against PPO.

Drawn from plain numbers with matplotlib's Figure objects, so no global figure state is left
behind, and written as PNG without dates or versions: equal numbers give equal bytes.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.catalogue import entry
from tasks.reports.style import (
    BLUE,
    COLOURS,
    INK,
    ORANGE,
    QUIET,
    add_legend,
    add_title,
    mean_in_words,
    new_figure,
    save_png,
    say_empty,
    smooth,
    style_axes,
)

_SMOOTH_FROM = 60  # with more points than this, a line is drawn pale with its running mean on top
_SCALE_APART = 5.0  # with a spread this many times another's, a metric gets the right-hand axis

MOST_PANELS = 3
"""Side by side, so that their texts do not meet."""

Points = Sequence[tuple[int, float]]


def plot_loss_curves(histories: Mapping[str, Mapping[str, Points]], path: Path) -> None:
    """Draw the losses of every stage, one panel a stage.

    Args:
        histories: Of each stage its metrics, each a list of (step, value). Drawn are those whose
            name ends in "loss", without the values that are not finite; a name that begins with its
            stage is shown without it.
    """
    columns = 1 if len(histories) == 1 else 2
    rows = max(1, math.ceil(len(histories) / columns))
    figure = new_figure(8.0, 0.5 + 2.75 * rows)
    for index, (stage, metrics) in enumerate(histories.items()):
        _draw_losses(figure.add_subplot(rows, columns, index + 1), stage, metrics)
    add_title(figure, "Losses of every stage")
    save_png(figure, path)


def plot_stage_curves(stage: str, history: Mapping[str, Points], path: Path) -> None:
    """Draw what stands for a stage in the catalogue, one panel a metric, side by side.

    Args:
        history: Of each metric its (step, value) so far.
    """
    shown = [curve for curve in entry(stage).curves if curve.metric in history][:MOST_PANELS]
    figure = new_figure(8.0, 2.5)
    for index, curve in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), index + 1)
        points = np.array(history[curve.metric], dtype=np.float64).reshape(-1, 2)
        points = points[np.isfinite(points[:, 1])]
        style_axes(axes, curve.title, curve.x, curve.y)
        axes.set_title(curve.title, fontsize=9, color=INK, loc="left")  # they stand side by side
        if len(points):
            _draw_curve(axes, points, curve.y, BLUE)
        else:
            say_empty(axes)
    save_png(figure, path)


def plot_score_against_kl(points: Sequence[tuple[float, float]], path: Path) -> None:
    """Draw what PPO bought with its distance from the reference, iteration by iteration.

    Args:
        points: (kl_to_reference in nats per completion, mean score) of each iteration, in order.
    """
    figure = new_figure(8.0, 5.0)
    axes = figure.add_subplot()
    kept = [
        (number, kl, score)
        for number, (kl, score) in enumerate(points, start=1)
        if math.isfinite(kl) and math.isfinite(score)
    ]
    x_label, y_label = "KL to reference (nats per completion)", "mean score (reward model)"
    style_axes(axes, "Score against KL over PPO", x_label, y_label)
    if not kept:
        say_empty(axes)
        return save_png(figure, path)
    numbers, kls, scores = zip(*kept, strict=True)
    axes.plot(kls, scores, color=QUIET, linewidth=0.8, alpha=0.6, zorder=1)
    dots = axes.scatter(
        kls, scores, c=numbers, cmap="viridis", s=42, edgecolors=INK, linewidths=0.4, zorder=2
    )
    axes.margins(0.12)
    for index in sorted({0, len(kept) - 1}):
        axes.scatter(kls[index], scores[index], s=120, facecolors="none", edgecolors=INK)
        _name_point(axes, f"iteration {numbers[index]}", index, np.array([kls, scores]).T)
    if len(kept) > 1:
        bar = figure.colorbar(dots, ax=axes, pad=0.02)
        bar.set_label("PPO iteration", fontsize=11, color=INK)
        bar.ax.tick_params(labelsize=10, colors=INK)
        bar.outline.set_visible(False)
    return save_png(figure, path)


def plot_distributions(
    sft: Sequence[float],
    ppo: Sequence[float],
    name: str,
    unit: str,
    path: Path,
    *,
    policy: str = "PPO",
) -> None:
    """Draw one quantity of all samples of both models over shared bins, means marked.

    Args:
        sft: The quantity of every SFT sample; numbers that are not finite are counted in a note.
        ppo: The same of every sample of the policy.
        name: What it is, such as "score" or "completion length".
        unit: Its unit, such as "tokens".
        policy: What the policy is called.
    """
    figure = new_figure(8.0, 4.2)
    axes = figure.add_subplot()
    title = f"{name[:1].upper()}{name[1:]}, SFT and {policy}"
    style_axes(axes, title, f"{name} ({unit})", "samples (%)")
    finite = {
        label: values[np.isfinite(values)]
        for label, values in (("SFT", np.asarray(sft, float)), (policy, np.asarray(ppo, float)))
    }
    dropped = len(sft) + len(ppo) - sum(len(values) for values in finite.values())
    if not any(len(values) for values in finite.values()):
        say_empty(axes)
        return save_png(figure, path)
    edges = _shared_edges(np.concatenate(list(finite.values())))
    for (label, values), colour in zip(finite.items(), (BLUE, ORANGE), strict=True):
        if len(values):
            _draw_histogram(axes, values, edges, label, colour)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    add_legend(axes)
    if dropped:
        axes.set_title(f"{dropped} not finite, left out", fontsize=10, loc="right", color=QUIET)
    return save_png(figure, path)


def _draw_losses(axes: Any, stage: str, metrics: Mapping[str, Points]) -> None:
    row = entry(stage)
    x_label = next((curve.x for curve in row.curves), "step")
    style_axes(axes, row.title, x_label, f"loss ({row.loss_unit})" if row.loss_unit else "loss")
    curves = {
        name.removeprefix(f"{stage}/"): np.array(
            [(step, value) for step, value in points if math.isfinite(value)], float
        )
        for name, points in metrics.items()
        if name.endswith("loss")
    }
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return say_empty(axes)
    first = next(iter(curves.values()))
    apart = [name for name, curve in curves.items() if _scales_apart(first, curve)]
    right = axes.twinx() if apart else None
    handles = []
    for (name, curve), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        if right is not None and name in apart:
            handles.append(_draw_curve(right, curve, f"{name} (right axis)", colour))
        else:
            handles.append(_draw_curve(axes, curve, name, colour))
    if right is not None:
        _share_panel(axes, right)
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    add_legend(axes, handles)
    return None


def _share_panel(left: Any, right: Any) -> None:
    right.spines[:].set_visible(False)
    for axes in (left, right):
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.35 * (high - low))
        axes.tick_params(labelsize=10, length=3)
        axes.tick_params(axis="y", colors=axes.lines[0].get_color())


def _draw_curve(axes: Any, curve: NDArray[np.float64], label: str, colour: str) -> Any:
    steps, values = curve[:, 0], curve[:, 1]
    if len(curve) <= _SMOOTH_FROM:
        marker = "o" if len(curve) <= 25 else None
        (line,) = axes.plot(
            steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3, label=label
        )
        return line
    axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.25)
    mean = smooth(values, max(2, len(curve) // 60))
    (line,) = axes.plot(steps, mean, color=colour, linewidth=1.8, label=label)
    return line


def _scales_apart(first: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    sizes = [float(np.quantile(np.abs(curve[:, 1]), 0.9)) for curve in (first, other)]
    return max(sizes) > _SCALE_APART * min(sizes)


def _draw_histogram(
    axes: Any, values: NDArray[np.float64], edges: NDArray[np.float64], label: str, colour: str
) -> None:
    weights = np.full(len(values), 100 / len(values))
    mean = float(values.mean())
    label = f"{label} (dashed: mean {mean_in_words(mean)})"
    axes.hist(values, bins=edges, weights=weights, color=colour, alpha=0.35, label=label)
    axes.hist(values, bins=edges, weights=weights, color=colour, histtype="step", linewidth=1.6)
    axes.axvline(mean, color=colour, linewidth=1.8, linestyle="--")


def _shared_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose at most 41 bins for all samples; whole numbers get bins of whole numbers."""
    low, high = float(values.min()), float(values.max())
    if np.array_equal(values, np.round(values)):
        width = max(1, math.ceil((high - low + 1) / 40))
        return np.arange(low - 0.5, high + 0.5 + width, width)
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, 41)


def _name_point(axes: Any, text: str, index: int, points: NDArray[np.float64]) -> None:
    """Name one of all points, (points, 2), with an arrow from the side that has the most room."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    places = (points - [left, bottom]) / [right - left, top - bottom]  # 0 to 1 in the axes
    angles = np.arange(12) * math.pi / 6
    centres = places[index] + np.stack([0.16 * np.cos(angles), 0.16 * np.sin(angles)], axis=1)
    shaft = (places[index] + centres) / 2
    others = np.delete(places, index, axis=0)
    room = np.ones(len(angles))
    if len(others):
        # The text is about 0.2 wide and 0.05 high: it needs more room sideways than up.
        text_gaps = np.abs(centres[:, None] - others) / [2.0, 1.0]
        shaft_gaps = np.abs(shaft[:, None] - others)
        room = np.minimum(
            np.linalg.norm(text_gaps, axis=2).min(axis=1),
            np.linalg.norm(shaft_gaps, axis=2).min(axis=1),
        )
    inside = (np.abs(centres - 0.5) < [0.4, 0.46]).all(axis=1)
    axes.annotate(
        text, xy=points[index], xytext=centres[int(np.argmax(np.where(inside, room, -1.0)))],
        textcoords="axes fraction", ha="center", va="center", fontsize=11, color=INK, zorder=3,
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.0, "shrinkB": 7},
    )  # fmt: skip
