"""The picture of a gain against length: whether a model is better, or only shorter or longer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.statistics.intervals import Interval
from tasks.reports.style import (
    INK,
    QUIET,
    RUN_COLOURS,
    legend_entry,
    new_figure,
    save_png,
    say_empty,
    style_axes,
)

GROUPS = 8
"""Of prompts by difference of length, each with its mean gain."""
FEWEST = 10
"""Prompts of a group."""

ENDINGS = {
    0.0: ("both end alike", QUIET),
    1.0: ("the model's end more often", RUN_COLOURS[0]),
    -1.0: ("the model's are cut more often", RUN_COLOURS[1]),
}
"""By the sign of how much more often the model's completions of a prompt end."""


def plot_gain_against_length(
    sides: Sequence[Sequence[Mapping[str, Any]]],
    judge: str,
    label: str,
    gains: tuple[Interval, Interval],
    path: Path,
) -> None:
    """Draw each prompt's gain over how much longer the model's completions are.

    Args:
        sides: Rows of samples.jsonl of the baseline and of the model, in the same order.
        judge: Whose scores are drawn.
        label: What they are called.
        gains: The mean gain, and the one at equal length and ending.
    """
    longer, gain, ends = _by_prompt(sides, judge).T
    figure = new_figure(8.0, 5.6)
    axes = figure.add_subplot()
    x_label = "difference of length, model less baseline (tokens, mean of a prompt's samples)"
    style_axes(axes, "Gain against difference of length", x_label, f"gain by the {label}")
    finite = np.isfinite(longer) & np.isfinite(gain)
    if not finite.any():
        say_empty(axes)
        return save_png(figure, path)
    handles: list[Any] = []
    for sign, (name, colour) in ENDINGS.items():
        which = finite & (np.sign(ends) == sign)
        if which.any():
            axes.scatter(longer[which], gain[which], s=16, color=colour, alpha=0.45, linewidths=0)
            handles.append(legend_entry(name, marker="o", linestyle="", color=colour))
    handles += _draw_means(axes, longer[finite], gain[finite])
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    for one, marker, name in zip(gains, ("s", "D"), ("mean gain", "at equal length and ending"),
                                 strict=True):  # fmt: skip
        if math.isfinite(one.low):
            at = float(longer[finite].mean()) if marker == "s" else 0.0
            error = [[one.mean - one.low], [one.high - one.mean]]
            handles.append(
                axes.errorbar(
                    at, one.mean, yerr=error, fmt=marker, color=INK, capsize=5, markersize=8,
                    linewidth=2, zorder=4, label=f"{name}: {one}",
                )
            )  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower left", ncols=2, fontsize=10, frameon=False,
        labelcolor=INK,
    )  # fmt: skip
    return save_png(figure, path)


def _by_prompt(sides: Sequence[Sequence[Mapping[str, Any]]], judge: str) -> NDArray[np.float64]:
    """Differences of each prompt's means, (prompts, 3): of length, score and ending."""
    numbers = [
        [(row["tokens"], row["scores"][judge], float(row["finished"])) for row in one]
        for one in sides
    ]
    first, second = (np.array(one, dtype=np.float64) for one in numbers)
    samples = 1 + max(row["sample"] for row in sides[0])
    differences: NDArray[np.float64] = (second - first).reshape(-1, samples, 3).mean(axis=1)
    return differences


def _draw_means(axes: Any, longer: NDArray[np.float64], gain: NDArray[np.float64]) -> Sequence[Any]:
    """Draw the mean gain of groups of prompts by difference of length, as many in each."""
    groups = min(GROUPS, len(longer) // FEWEST)
    if groups < 2:
        return []
    parts = np.array_split(np.argsort(longer, kind="stable"), groups)
    points = [(longer[part].mean(), gain[part].mean()) for part in parts]
    name = "mean of prompts with like differences"
    (line,) = axes.plot(*zip(*points, strict=True), "-", color=INK, linewidth=1.6, label=name)
    return [line]
