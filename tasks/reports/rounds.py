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
    new_figure,
    save_png,
    style_axes,
    table,
)
from tasks.run.spec import Page, Result

ROUNDS = "rounds.json"
CELL = 160
PICTURE = "win-rate-over-rounds.png"


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
        f"Round {row['round']} was rejected, so its policy samples for no later round: "
        f"{cell(' '.join(row['reasons']), 4 * CELL)}"
        for row in rejected
    ]
    return Page(
        title=f"{len(rows)} rounds" if len(rows) > 1 else "1 round",
        markdown="\n\n".join(parts),
        pictures=[plots / PICTURE],
        on_pipeline=True,
        tags={"quartet.verdict": "accepted" if rows[-1]["accepted"] else "rejected"},
    )


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    sampler = f"policy of round {row['sampled_by']}" if row["sampled_by"] else "SFT model"
    rate = _interval(row["win_rate"])
    return (
        row["round"],
        sampler,
        "accepted" if row["accepted"] else "rejected",
        row["promoted"] or "–",
        f"{row['labels']:,.0f}",
        str(_interval(row["gain"])),
        f"{rate.mean:.3f} [{rate.low:.3f}, {rate.high:.3f}]",
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
    behind = axes.twinx()
    behind.bar(numbers, [row["labels"] for row in rows], width=0.5, color=QUIET, alpha=0.25)
    behind.set_ylabel("labels so far", fontsize=11, color=QUIET)
    behind.tick_params(labelsize=10, colors=QUIET, length=3)
    behind.set_ylim(0, 2.2 * max(row["labels"] for row in rows) or 1)
    behind.spines["top"].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot(numbers, [100 * one.mean for one in rates], color=BLUE, linewidth=2.0)
    for row, rate in zip(rows, rates, strict=True):
        colour = BLUE if row["accepted"] else ORANGE
        if math.isfinite(rate.low):
            axes.plot(
                [row["round"]] * 2, [100 * rate.low, 100 * rate.high], color=colour, linewidth=2.5
            )
        axes.plot([row["round"]], [100 * rate.mean], "o", color=colour, markersize=9)
        axes.annotate(
            f"{100 * rate.mean:.0f}%", (row["round"], 100 * rate.mean), (9, 4),
            textcoords="offset points", fontsize=10, color=INK,
        )  # fmt: skip
    axes.axhline(50, color=INK, linewidth=1.2, linestyle="--")
    axes.set_xticks(numbers)
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    ends = [100 * end for one in rates for end in (one.low, one.high, one.mean)]
    ends = [one for one in ends if math.isfinite(one)]
    axes.set_ylim(max(0.0, min(40.0, *ends) - 5), min(100.0, max(60.0, *ends) + 5))
    axes.grid(False, axis="x")
    save_png(figure, path)
