"""The comparison's pictures of completions, spreads and win rates, and what all pictures share.

One colour and one letter a run, the same in every picture. Drawn as in `tasks/reports/training.py`:
from plain numbers, with no global state, equal numbers to equal bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tasks.comparison.compare_labels import letter
from tasks.comparison.runs import RunRecord
from tasks.comparison.statistics import WinRate
from tasks.reports.style import (
    INK,
    QUIET,
    RUN_COLOURS,
    new_figure,
    save_png,
    say_empty,
    style_axes,
)


def plot_spread(records: Sequence[RunRecord], labels: Sequence[str], path: Path) -> bool:
    """Draw how scores and lengths of all runs' completions are spread, SFT's in grey.

    Scores are overlaid only where one reward model gave them all.

    Returns:
        Whether there was anything to draw.
    """
    sampled = [record for record in records if record.samples]
    if not sampled:
        return False
    shared_sft = len({record.sft for record in sampled}) == 1
    figure = new_figure(9.0, 3.6 + 0.25 * len(records))
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    style_axes(left, "Scores of held-out completions", "score (reward model)", "completions (%)")
    style_axes(right, "Lengths of held-out completions", "words a completion", "completions (%)")
    if len({record.judges.get("score") for record in sampled}) == 1:
        _draw_spread(left, records, "score", sft=shared_sft)
    else:
        left.set(xticks=[], yticks=[])
        left.grid(False)
        text = "scored by different reward models:\nnot on one scale"
        left.text(0.5, 0.5, text, ha="center", color=QUIET, transform=left.transAxes)
    _draw_spread(right, records, "words", sft=shared_sft)
    add_run_legend(figure, labels, sft=shared_sft)
    give_room(figure)
    save_png(figure, path)
    return True


def plot_win_rates(
    records: Sequence[RunRecord], labels: Sequence[str], rates: Sequence[WinRate], path: Path
) -> bool:
    """Draw each win rate as a point with its interval, and the line where nobody wins.

    Returns:
        Whether there was anything to draw.
    """
    drawn = [rate for rate in rates if math.isfinite(rate.rate.low)]
    if not drawn:
        return False
    figure = new_figure(9.0, 1.5 + 0.42 * len(drawn) + 0.25 * len(records))
    axes = figure.add_subplot()
    judges = " or ".join(dict.fromkeys(rate.judge for rate in drawn))
    style_axes(
        axes,
        f"Whose completion does the {judges} prefer, prompt by prompt?",
        "prompts won (%), ties half, 95% interval",
        "",
    )
    for row, rate in enumerate(reversed(drawn)):
        share = rate.rate
        colour = RUN_COLOURS[rate.first]
        axes.plot([100 * share.low, 100 * share.high], [row, row], color=colour, linewidth=2.5)
        axes.plot([100 * share.mean], [row], "o", color=colour, markersize=8)
        text = f"{share.mean:.0%}"
        axes.annotate(
            text, (100 * share.mean, row), (0, 7), textcoords="offset points", ha="center",
            fontsize=10, color=INK,
        )  # fmt: skip
    axes.axvline(50, color=INK, linewidth=1.2, linestyle="--")
    axes.annotate(
        "even", (50, 1), (4, -2), xycoords=("data", "axes fraction"), va="top",
        textcoords="offset points", fontsize=10, color=QUIET,
    )  # fmt: skip
    axes.set_yticks(range(len(drawn)), [_versus(rate) for rate in reversed(drawn)])
    axes.set_ylim(-0.6, len(drawn) - 0.2)
    axes.grid(False, axis="y")
    low = min(40.0, *(100 * rate.rate.low - 5 for rate in drawn))
    high = max(60.0, *(100 * rate.rate.high + 5 for rate in drawn))
    axes.set_xlim(max(-2.0, low), min(102.0, high))
    add_run_legend(figure, labels)
    save_png(figure, path)
    return True


def give_room(figure: Any) -> None:
    """Keep panels apart, so that no label touches its neighbour's."""
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, wspace=0.02, hspace=0.02)


def add_run_legend(
    figure: Any, labels: Sequence[str], *, sft: bool = False, common: str = ""
) -> None:
    """Name the runs by their colours below the panels, long names and all."""
    handles = [
        Line2D([], [], color=colour, linewidth=3, label=shorten(label, 95))
        for colour, label in zip(RUN_COLOURS, labels, strict=False)
    ]
    if common:
        handles.append(Line2D([], [], color=INK, linewidth=3, label=common))
    if sft:
        handles.append(Line2D([], [], color=QUIET, linewidth=6, alpha=0.5, label="their SFT model"))
    figure.legend(
        handles=handles, loc="outside lower left", fontsize=10, frameon=False, labelcolor=INK
    )


def shorten(text: str, characters: int) -> str:
    """Cut a text to what fits; no dollar sign starts a formula."""
    text = text if len(text) <= characters else f"{text[: characters - 1]}…"
    return text.replace("$", r"\$")


def _draw_spread(axes: Any, records: Sequence[RunRecord], what: str, *, sft: bool) -> None:
    """Overlay outlines, with each mean marked above them in a row of its own."""
    curves = {index: _numbers(record, "ppo", what) for index, record in enumerate(records)}
    curves = {index: values for index, values in curves.items() if len(values)}
    first = next((record for record in records if record.samples), None)
    base = _numbers(first, "sft", what) if sft and first is not None else np.empty(0)
    every = np.concatenate([base, *curves.values()])
    if not len(every):
        return say_empty(axes)
    edges = _edges(every, whole=what == "words")
    highest = 0.0
    if len(base):
        heights, _, _ = axes.hist(base, edges, weights=_percent(base), color=QUIET, alpha=0.3)
        highest = float(np.max(heights))
    for index, values in curves.items():
        heights, _ = np.histogram(values, edges, weights=_percent(values))
        highest = max(highest, float(heights.max()))
        axes.plot((edges[:-1] + edges[1:]) / 2, heights, color=RUN_COLOURS[index], linewidth=1.8)
    marks = [("SFT", QUIET, base)] if len(base) else []
    marks += [(letter(index), RUN_COLOURS[index], values) for index, values in curves.items()]
    for row, (name, colour, values) in enumerate(marks, start=1):
        height = highest * (1 + 0.085 * (len(marks) + 1 - row))
        axes.plot([values.mean()], [height], "D", color=colour, markersize=6)
        axes.annotate(
            f"{name} {values.mean():.3g}".replace("-", "−"), (values.mean(), height), (-8, 0),
            textcoords="offset points", ha="right", va="center", fontsize=9.5, color=colour,
        )  # fmt: skip
    axes.set_title("◆ mean", fontsize=10, loc="right", color=QUIET)
    axes.set_ylim(0, highest * (1.1 + 0.085 * len(marks)))
    return None


def _numbers(record: RunRecord, model: str, what: str) -> NDArray[np.float64]:
    if what == "words":
        numbers = [float(len(str(row[model]).split())) for row in record.samples]
    else:
        numbers = [float(row[f"{model}_{what}"]) for row in record.samples]
    array = np.array(numbers, dtype=np.float64)
    return array[np.isfinite(array)]


def _edges(values: NDArray[np.float64], *, whole: bool) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if whole:
        width = max(1, math.ceil((high - low + 1) / 40))
        return np.arange(low - 0.5, high + 0.5 + width, width)
    return np.linspace(low, high, 31) if high > low else np.array([low - 0.5, low + 0.5])


def _percent(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full(len(values), 100 / len(values))


def _versus(rate: WinRate) -> str:
    other = "its SFT model" if rate.second is None else letter(rate.second)
    return f"{letter(rate.first)} against {other}"
