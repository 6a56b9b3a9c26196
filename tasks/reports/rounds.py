"""The page of a loop's rounds: what each came to, and the win rate against the SFT model over them.

Source: Touvron et al., Llama 2 (2023), figure 11, for the picture.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.wording import judge_name
from models.rows import read_json
from models.statistics.intervals import Interval
from tasks.reports.style import (
    BLUE,
    INK,
    ORANGE,
    QUIET,
    cell,
    gain_text,
    new_figure,
    save_png,
    style_axes,
    table,
    with_interval,
)
from tasks.run.spec import Page, Result

ROUNDS = "rounds.json"
CELL = 160
PICTURE = "win-rate-over-rounds.png"
FEW_ROUNDS = 10
"""Up to so many have room for their numbers."""


def rounds_page(result: Result, plots: Path) -> Page:
    """What the rounds of a loop came to."""
    rows: list[dict[str, Any]] = read_json(result.folder / ROUNDS)
    plot_rounds(rows, plots / PICTURE)
    judges = dict.fromkeys(judge_name(cell(row["judge"], CELL)) for row in rows)
    same = len(judges) == 1 and rows[-1]["judge"] not in ("judge", "reward")
    parts = [
        table(
            (
                "round",
                "sampled by",
                "verdict",
                "promotion",
                "labels",
                "gain [95%]",
                "win rate [95%]",
            ),
            [_cells(row) for row in rows],
            text_columns=4,
        ),
        f"Gain and win rate are over the SFT model, under the {' or the '.join(judges)}; labels "
        "are the annotated pairs of all rounds so far.",
    ]
    if not same:
        parts.append(
            "The reward models of a round learned from the labels up to it, so rounds are not "
            "judged by quite the same standard."
        )
    rejected = [row for row in rows if not row["accepted"]]
    parts += [
        f"Round {row['round']}: {row['verdict']}, so its policy samples for no later round: "
        f"{cell(' '.join(row['reasons']), 4 * CELL)}"
        for row in rejected
    ]
    return Page(
        title=f"{len(rows)} rounds" if len(rows) > 1 else "1 round",
        markdown="\n\n".join(parts),
        pictures=[plots / PICTURE],
        on_pipeline=True,
        tags={"quartet.verdict": rows[-1]["verdict"]},
    )


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    sampler = f"policy of round {row['sampled_by']}" if row["sampled_by"] else "SFT model"
    rate = _interval(row["win_rate"])
    return (
        row["round"],
        sampler,
        row["verdict"],
        row["promoted"] or "–",
        f"{row['labels']:,.0f}",
        gain_text(_interval(row["gain"])),
        with_interval(rate, 3),
    )


def _interval(record: Mapping[str, float]) -> Interval:
    return Interval(**record)


def plot_rounds(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the win rate against the SFT model over rounds, with the labels used behind it."""
    figure = new_figure(8.0, 4.6)
    axes = figure.add_subplot()
    style_axes(axes, "", "round", "win rate against the SFT model (%)")
    numbers = [row["round"] for row in rows]
    rates = [_interval(row["win_rate"]) for row in rows]
    _draw_labels(axes, numbers, [row["labels"] for row in rows])
    axes.plot(numbers, [100 * one.mean for one in rates], color=BLUE, linewidth=1.5, zorder=1)
    for accepted, colour in ((True, BLUE), (False, ORANGE)):
        group = [pair for pair in zip(rows, rates, strict=True) if pair[0]["accepted"] is accepted]
        for at, (row, rate) in enumerate(group):
            place, mean = row["round"], 100 * rate.mean
            low, high = (100 * end if math.isfinite(end) else mean for end in (rate.low, rate.high))
            axes.plot([place, place], [low, high], color=colour, linewidth=2.5)
            named = "_" if at else "accepted" if accepted else "not accepted"  # once in the legend
            axes.plot([place], [mean], "o", color=colour, markersize=8, label=named)
            if len(rows) <= FEW_ROUNDS and math.isfinite(mean):
                axes.annotate(
                    f"{mean:.0f}%", (place, high), (0, 5), textcoords="offset points",
                    ha="center", fontsize=10, color=INK,
                )  # fmt: skip
    axes.axhline(50, color=INK, linewidth=1.2, linestyle="--")
    axes.set_xticks(numbers)
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    ends = [100 * end for one in rates for end in (one.low, one.high, one.mean)]
    ends = [40.0, 60.0, *(one for one in ends if math.isfinite(one))]
    axes.set_ylim(max(0.0, min(ends) - 5), min(102.0, max(ends) + 6))
    axes.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False, labelcolor=INK)
    save_png(figure, path)


def _draw_labels(axes: Any, rounds: Sequence[int], labels: Sequence[float]) -> None:
    """Bars behind the curve, with an axis of their own on the right."""
    behind = axes.twinx()
    behind.bar(rounds, labels, width=0.5, color=QUIET, alpha=0.25)
    behind.set_ylabel("labels so far", fontsize=11, color=QUIET)
    behind.tick_params(labelsize=10, colors=QUIET, length=3)
    behind.set_ylim(0, 2.2 * max(labels) or 1)
    for side in ("top", "left", "right"):
        behind.spines[side].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
