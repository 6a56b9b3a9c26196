"""The picture of prepared data: how long its texts are, and how much longer the better one is.

Same rules as the evaluation's pictures: no global figure state, equal numbers give equal bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.formats import Collection
from tasks.data.inspection.records import ColumnLengths, Histogram, PairNumbers
from tasks.data.report import Lengths, PreparationReport
from tasks.reports.style import (
    BLUE,
    COLOURS,
    INK,
    ORANGE,
    QUIET,
    add_legend,
    add_title,
    new_figure,
    save_png,
    style_axes,
)

_ORDER: tuple[Collection, ...] = ("corpus", "prompts", "demonstrations", "preferences")
"""Pairs last, beside the difference of their sides."""
_PANELS = (("text",), ("prompt",), ("completion",), ("chosen", "rejected"))
"""Columns that are drawn on one another."""


def plot_lengths(report: PreparationReport, path: Path) -> None:
    """Draw the lengths of every column, chosen over rejected, and the difference of these."""
    characters = {each.name: each.lengths for each in report.collections}
    inspected = {each.name: each for each in report.inspection.collections}
    panels = [
        (each.name, {name: each.columns[name] for name in names})
        for each in (inspected[name] for name in _ORDER if name in inspected)
        for names in _PANELS
        if set(names) <= set(each.columns)
    ]
    pairs = report.inspection.pairs
    count = len(panels) + (pairs is not None)
    rows = max(1, -(-count // 2))
    figure = new_figure(8.0, 0.5 + 2.5 * rows)
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for one, (name, columns) in zip(axes, panels, strict=False):
        _draw_lengths(one, name, columns, characters[name])
    if pairs is not None:
        _draw_difference(axes[len(panels)], pairs)
    for one in axes[count:]:
        one.set_axis_off()
    add_title(figure, "How long the texts are (dashed: median)")
    save_png(figure, path)


def _draw_lengths(
    axes: Any, name: str, columns: Mapping[str, ColumnLengths], characters: Mapping[str, Lengths]
) -> None:
    from matplotlib.ticker import EngFormatter  # half a second to import, as in `new_figure`

    style_axes(axes, f"{name}: {' and '.join(columns)}", "characters", "texts (%)")
    for colour, (column, lengths) in zip(COLOURS, columns.items(), strict=False):
        _draw_bars(axes, lengths.histogram, colour, column)
        axes.axvline(characters[column].median, color=colour, linestyle="--", linewidth=1.2)
        if _grows(lengths.histogram.edges):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(columns) > 1:
        add_legend(axes)


def _draw_difference(axes: Any, pairs: PairNumbers) -> None:
    title = "preferences: chosen minus rejected"
    if pairs.unequal:
        title = f"preferences: chosen is longer in {pairs.longer / pairs.unequal:.0%}"
    style_axes(axes, title, "characters of chosen minus rejected", "pairs (%)")
    edges = np.array(pairs.difference.edges)
    shares = _shares(pairs.difference)
    middles = (edges[1:] + edges[:-1]) / 2
    sides = np.round(middles / np.diff(edges)).astype(int)  # 0 is the bin of hardly any difference
    colours = [BLUE if side > 0 else ORANGE if side < 0 else QUIET for side in sides]
    axes.bar(middles, shares, width=np.diff(edges), color=colours, alpha=0.6)
    axes.axvline(0, color=INK, linewidth=1.0)


def _draw_bars(axes: Any, histogram: Histogram, colour: str, label: str) -> None:
    shares, edges = _shares(histogram), list(histogram.edges)
    axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
    axes.stairs(shares, edges, color=colour, linewidth=1.2, label=label)


def _shares(histogram: Histogram) -> NDArray[np.float64]:
    counts: NDArray[np.float64] = np.array(histogram.counts, dtype=np.float64)
    return counts * (100 / max(1.0, float(counts.sum())))


def _grows(edges: Sequence[float]) -> bool:
    """Whether bins grow by a factor."""
    return edges[-1] - edges[-2] > 1.01 * (edges[1] - edges[0])
