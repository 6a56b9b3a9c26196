"""The comparison's pictures of win rates, spreads and curves, and what all its pictures share.

One colour and one letter per run, the same in every picture. Equal numbers give equal bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.catalogue import Curve, entry
from tasks.comparison.runs import Completion, RunRecord, letter
from tasks.comparison.statistics import WinRate
from tasks.reports.style import (
    INK,
    QUIET,
    RUN_COLOURS,
    legend_entry,
    mean_in_words,
    new_figure,
    save_png,
    say_empty,
    smooth,
    style_axes,
)

MANY = 60
"""With more points than this a curve is drawn pale with its running mean on top."""


def plot_win_rates(labels: Sequence[str], rates: Sequence[WinRate], path: Path) -> bool:
    """Draw each win rate with its interval; False where there is nothing to draw."""
    drawn = [one for one in rates if math.isfinite(one.rate.low)][::-1]
    if not drawn:
        return False
    figure = new_figure(9.0, 1.5 + 0.42 * len(drawn) + 0.25 * len(labels))
    axes = figure.add_subplot()
    judges = " or ".join(dict.fromkeys(one.judge for one in reversed(drawn)))
    title = f"Whose completion does the {judges} prefer, prompt by prompt?"
    x_label = "prompts won (%), ties half, 95% interval; hollow: at equal length and ending"
    style_axes(axes, title, x_label, "")
    for row, one in enumerate(drawn):
        mean, low, high = 100 * one.rate.mean, 100 * one.rate.low, 100 * one.rate.high
        axes.plot([low, high], [row, row], color=RUN_COLOURS[one.first], linewidth=2.5)
        axes.plot([mean], [row], "o", color=RUN_COLOURS[one.first], markersize=8)
        annotate(axes, f"{mean:.0f}%", (mean, row), (0, 7), ha="center")
        if math.isfinite(one.controlled.low):
            mean, low, high = (
                100 * end for end in (one.controlled.mean, one.controlled.low, one.controlled.high)
            )
            below, colour = row - 0.22, RUN_COLOURS[one.first]
            axes.plot([low, high], [below, below], color=colour, linewidth=1.2)
            axes.plot([mean], [below], "o", color=colour, markersize=6, markerfacecolor="white")
    axes.axvline(50, color=INK, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(drawn)), [str(one) for one in drawn])
    axes.set_ylim(-0.6, len(drawn) - 0.2)
    axes.grid(False, axis="y")
    shown = [one for each in drawn for one in (each.rate, each.controlled)]
    low = min(40.0, *(100 * one.low - 5 for one in shown if math.isfinite(one.low)))
    high = max(60.0, *(100 * one.high + 5 for one in shown if math.isfinite(one.high)))
    axes.set_xlim(max(-2.0, low), min(102.0, high))
    add_run_legend(figure, labels)
    save_png(figure, path)
    return True


def plot_spread(records: Sequence[RunRecord], labels: Sequence[str], path: Path) -> bool:
    """Draw the distributions of all runs' scores and lengths, SFT's in grey; False without any.

    Scores are overlaid only where one reward model gave them all.
    """
    sampled = {index: record.samples for index, record in enumerate(records) if record.samples}
    if not sampled:
        return False
    models = {index: [one.ppo for one in samples] for index, samples in sampled.items()}
    shared_sft = len({records[index].sft for index in sampled}) == 1
    base = [one.sft for one in next(iter(sampled.values()))] if shared_sft else []
    figure = new_figure(9.0, 3.6 + 0.25 * len(records))
    left, right = figure.subplots(1, 2)
    style_axes(left, "Scores of held-out completions", "score (reward model)", "completions (%)")
    style_axes(right, "Lengths of held-out completions", "words per completion", "completions (%)")
    if len({records[index].judges.get("score") for index in sampled}) == 1:
        _draw_spread(left, models, base, lambda one: one.scores.get("score", math.nan))
    else:
        say_empty(left, "scored by different reward models:\nnot on one scale")
    _draw_spread(right, models, base, lambda one: len(one.text.split()))
    add_run_legend(figure, labels, sft=shared_sft)
    give_room(figure)
    save_png(figure, path)
    return True


def plot_curves(
    records: Sequence[RunRecord], labels: Sequence[str], stages: Sequence[str], path: Path
) -> bool:
    """Draw the learning curves of some stages, one panel per metric; False without any.

    A result that all runs share is drawn once; one that some share in dashes of their colours.
    """
    panels = [
        (stage, curve)
        for stage in stages
        for curve in entry(stage).curves
        if any(record.curves.get(curve.metric) for record in records)
    ]
    if not panels:
        return False
    rows = math.ceil(len(panels) / 2)
    figure = new_figure(9.0, 2.6 * rows + 0.25 * len(records) + 0.3)
    shared = [
        _draw_curves(figure.add_subplot(rows, 2, place), records, stage, curve)
        for place, (stage, curve) in enumerate(panels, start=1)
    ]
    common = "one result that all these runs share" if any(shared) else ""
    add_run_legend(figure, () if all(shared) else labels, common=common)
    give_room(figure)
    save_png(figure, path)
    return True


def give_room(figure: Any) -> None:
    """Keep panels apart, so that no label touches its neighbour's."""
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, wspace=0.02, hspace=0.02)


def annotate(axes: Any, text: str, at: tuple[float, float], offset: Any, **style: Any) -> None:
    """Write beside a point."""
    style = {"fontsize": 10, "color": INK, "textcoords": "offset points"} | style
    axes.annotate(text, at, offset, **style)


def add_run_legend(
    figure: Any, labels: Sequence[str], *, sft: bool = False, common: str = ""
) -> None:
    """Name the runs by their colours below the panels."""
    lines = list(zip(RUN_COLOURS, labels, strict=False))
    lines += [(INK, common)] if common else []
    lines += [(QUIET, "their SFT model")] if sft else []
    handles = [legend_entry(f"{label:.95}", color=colour, linewidth=3) for colour, label in lines]
    figure.legend(
        handles=handles, loc="outside lower left", fontsize=10, frameon=False, labelcolor=INK
    )


def _draw_spread(
    axes: Any,
    runs: Mapping[int, Sequence[Completion]],
    base: Sequence[Completion],
    measure: Callable[[Completion], float],
) -> None:
    series = [("SFT", QUIET, base)]
    series += [
        (letter(index), RUN_COLOURS[index], completions) for index, completions in runs.items()
    ]
    finite = []
    for name, colour, completions in series:
        values = np.array([measure(one) for one in completions])
        if np.isfinite(values).any():
            finite.append((name, colour, values[np.isfinite(values)]))
    if not finite:
        return say_empty(axes)
    every = np.concatenate([values for _, _, values in finite])
    edges = np.histogram_bin_edges(every, 30)
    if np.issubdtype(every.dtype, np.integer):
        width = math.ceil((np.ptp(every) + 1) / 40)
        edges = np.arange(every.min() - 0.5, every.max() + 0.5 + width, width)
    for name, colour, values in finite:
        filled: dict[str, Any] = {"histtype": "stepfilled", "alpha": 0.3}
        look = filled if name == "SFT" else {"histtype": "step", "linewidth": 1.8}
        axes.hist(
            values, edges, weights=np.full(len(values), 100 / len(values)), color=colour, **look
        )
    highest = axes.dataLim.y1
    axes.set_ylim(0, highest * (1.1 + 0.085 * len(finite)))
    for row, (name, colour, values) in enumerate(finite):
        at = values.mean(), highest * (1 + 0.085 * (len(finite) - row))
        axes.plot(*at, "D", color=colour, markersize=6)
        text = f"{name} {mean_in_words(values.mean())}"
        annotate(axes, text, at, (-8, 0), ha="right", va="center", fontsize=9.5, color=colour)
    axes.set_title("◆ mean", fontsize=10, loc="right", color=QUIET)
    return None


def _draw_curves(axes: Any, records: Sequence[RunRecord], stage: str, curve: Curve) -> bool:
    style_axes(axes, curve.title, curve.x, curve.y)
    having = [index for index, record in enumerate(records) if record.curves.get(curve.metric)]
    digests = [records[index].stages.get(stage, records[index].run_id) for index in having]
    shared = len(digests) > 1 and len(set(digests)) == 1
    for place, index in enumerate(having[:1] if shared else having):
        colour = INK if shared else RUN_COLOURS[index]
        points = np.array(records[index].curves[curve.metric], dtype=np.float64)
        steps, values = points[np.isfinite(points).all(axis=1)].T
        turn, turns = digests[:place].count(digests[place]), digests.count(digests[place])
        style: Any = "-"
        if not shared and turns > 1:  # each gets its turn in the dashes
            style = (6 * turn, (6, 6 * (turns - 1)))
        if len(values) > MANY:
            axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.25)
            values = smooth(values, max(2, len(values) // 60))
        if len(values):
            axes.plot(steps, values, color=colour, linewidth=1.8, linestyle=style)
    if not axes.lines:
        say_empty(axes)
    return shared
