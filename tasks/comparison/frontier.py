"""The picture of over-optimisation: what each run's score, and what a judge, make of distance.

The further PPO takes a policy from its SFT model, the higher its own reward model scores it; past
some distance a judge that PPO has not learned from no longer agrees. The axis of KL has the scale
of its square root, in which Gao et al. found both curves simple.

Source: Gao, Schulman and Hilton, Scaling Laws for Reward Model Overoptimization (2023), section 3.
"""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from tasks.comparison.compare_curves import smooth
from tasks.comparison.compare_labels import letter
from tasks.comparison.plots import add_run_legend, give_room
from tasks.comparison.runs import JUDGES, RunRecord
from tasks.comparison.statistics import gain_of
from tasks.reports.style import INK, QUIET, RUN_COLOURS, new_figure, save_png, style_axes

OUTSIDE = ("gold", "judge_score")
"""Judges that PPO does not learn from, the most trusted first."""

MARKERS = {"accepted": "o", "rejected": "X"}


def outside_judge(records: Sequence[RunRecord]) -> str | None:
    """The most trusted judge other than PPO's own reward model that judged all evaluated runs."""
    judged = [record for record in records if record.verdict]
    for name in OUTSIDE:
        same = len({record.judges.get(name) for record in judged}) == 1
        if same and all(f"{name}_ppo" in record.final for record in judged):
            return name
    return None


def frontier_finding(records: Sequence[RunRecord]) -> str:
    """Say in a sentence whether the judge agrees with the score; empty where nothing tells."""
    judge = outside_judge(records)
    judged = [index for index, record in enumerate(records) if record.verdict]
    scorers = {records[index].judges.get("score") for index in judged}
    if judge is None or len(judged) < 2 or len(scorers) != 1:
        return ""
    by_score = max(judged, key=lambda index: records[index].final.get("score_ppo", -math.inf))
    by_judge = max(judged, key=lambda index: records[index].final[f"{judge}_ppo"])
    top, best = letter(by_score), letter(by_judge)
    if by_score == by_judge:
        return f"The reward model and the {JUDGES[judge]} agree on the highest: {top}."
    seen = f"{top} has the highest score, {best} the highest by the {JUDGES[judge]}"
    if records[by_score].sft != records[by_judge].sft:
        return f"{seen}; they start from different SFT models, so their gains are not compared."
    top_gain, best_gain = gain_of(records[by_score], judge), gain_of(records[by_judge], judge)
    if top_gain and best_gain and top_gain.high < best_gain.low:
        return (
            f"Over-optimised: {top} has the highest score, but by the {JUDGES[judge]} it gains "
            f"{top_gain} where {best} gains {best_gain}."
        )
    if not (top_gain and best_gain):
        return f"{seen}; without intervals nothing tells whether that is sure."
    return f"{seen}; their intervals overlap."


def plot_frontier(records: Sequence[RunRecord], labels: Sequence[str], path: Path) -> bool:
    """Draw score against KL over the iterations, and beside it a judge's view of where they end.

    Returns:
        Whether there was anything to draw.
    """
    trained = [record for record in records if record.curves.get("ppo/objective/score")]
    if not trained and not any(record.verdict for record in records):
        return False
    judge = outside_judge(records)
    figure = new_figure(9.0, 4.4 + 0.25 * len(records) + 0.5)
    left = figure.add_subplot(1, 2 if judge else 1, 1)
    same = len({record.judges.get("score") for record in records if record.judges}) <= 1
    title = "What the reward model sees" if same else "Score (different reward models!)"
    style_axes(
        left, title, "KL to reference (nats, square-root scale)", "mean score (reward model)"
    )
    axes_pair = [left]
    _draw_paths(left, records, "ppo/objective/score")
    _draw_ends(left, records, "score")
    if judge:
        right = figure.add_subplot(1, 2, 2)
        axes_pair.append(right)
        y_label = f"mean by the {JUDGES[judge]}"
        style_axes(
            right,
            f"What the {JUDGES[judge]} sees",
            "KL to reference (nats, square-root scale)",
            y_label,
        )
        _draw_paths(right, records, f"ppo/objective/{judge}")
        _draw_starts(right, records, judge)
        _draw_ends(right, records, judge)
        _explain_judge(right)
    for axes in axes_pair:
        _scale(axes)
    give_room(figure)
    _explain(left, records)
    finding = frontier_finding(records) or "What did each run buy with its distance from SFT?"
    figure.suptitle(_wrapped(finding), fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")
    add_run_legend(figure, labels)
    save_png(figure, path)
    return True


def _draw_paths(axes: Any, records: Sequence[RunRecord], metric: str) -> None:
    """Each run's way over the iterations: pale dots, and their running mean as a line."""
    for index, record in enumerate(records):
        kl = dict(record.curves.get("ppo/objective/kl_to_reference", ()))
        points = np.array(
            [
                (max(0.0, kl[step]), value)
                for step, value in record.curves.get(metric, ())
                if step in kl and math.isfinite(kl[step]) and math.isfinite(value)
            ],
            dtype=np.float64,
        ).reshape(-1, 2)
        colour = RUN_COLOURS[index]
        axes.plot(points[:, 0], points[:, 1], "o", color=colour, markersize=3.5, alpha=0.45, mew=0)
        if len(points):
            half = len(points) // 60  # of so many dots only the running mean shows the way
            way = [smooth(points[:, column], half) for column in (0, 1)]
            axes.plot(*way, color=colour, linewidth=1.0, alpha=0.45)


def _draw_starts(axes: Any, records: Sequence[RunRecord], judge: str) -> None:
    """Where each run came from: its SFT model, at no distance."""
    for index, record in enumerate(records):
        start, end = record.final.get(f"{judge}_sft"), record.final.get(f"{judge}_ppo")
        kl = record.final.get("kl_to_reference")
        if start is None or end is None or kl is None:
            continue
        axes.plot(
            [0, max(0.0, kl)], [start, end], color=RUN_COLOURS[index], linewidth=1.2,
            linestyle=":", zorder=1,
        )  # fmt: skip
        axes.plot([0], [start], "s", color=QUIET, markersize=8, clip_on=False, zorder=3)


def _draw_ends(axes: Any, records: Sequence[RunRecord], judge: str) -> None:
    """The held-out evaluation of each run, with its verdict and its interval."""
    for index, record in enumerate(records):
        kl, mean = record.final.get("kl_to_reference"), record.final.get(f"{judge}_ppo")
        if kl is None or mean is None or record.verdict not in MARKERS:
            continue
        gain = gain_of(record, judge)
        if gain is not None and judge != "score":
            start = mean - gain.mean
            axes.plot(
                [max(0.0, kl)] * 2, [start + gain.low, start + gain.high],
                color=RUN_COLOURS[index], linewidth=2, zorder=4,
            )  # fmt: skip
        axes.scatter(
            [max(0.0, kl)], [mean], marker=MARKERS[record.verdict], s=150,
            color=RUN_COLOURS[index], edgecolors=INK, linewidths=1.2, zorder=5,
        )  # fmt: skip
        axes.annotate(
            letter(index), (max(0.0, kl), mean), (9, 7), textcoords="offset points", fontsize=12,
            fontweight="bold", color=INK, zorder=6,
        )  # fmt: skip


def _scale(axes: Any) -> None:
    """Square-root scale from zero, with ticks in nats."""
    axes.margins(y=0.12)
    highest = max(0.05, axes.dataLim.x1 if math.isfinite(axes.dataLim.x1) else 0.05)
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(0, highest * 1.15)
    steps = (0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 9, 16, 25, 50, 100, 200, 400, 900)
    wanted = [step for step in steps if highest / 60 <= step <= highest * 1.1][-6:]
    axes.set_xticks([0, *wanted], [f"{tick:g}" for tick in (0, *wanted)])


def _root(values: Any) -> Any:
    return np.sqrt(np.maximum(values, 0.0))


def _explain(axes: Any, records: Sequence[RunRecord]) -> None:
    """What the marks mean, where the paths leave room: low and far away."""
    handles = [
        _grey(marker, f"{verdict} (held-out prompts)")
        for verdict, marker in MARKERS.items()
        if any(record.verdict == verdict for record in records)
    ]
    handles.append(
        Line2D([], [], marker="o", linestyle="-", color=QUIET, markersize=3.5, label="an iteration")
    )
    axes.legend(handles=handles, loc="lower right", fontsize=10, frameon=False, labelcolor=INK)


def _explain_judge(axes: Any) -> None:
    handles = [
        _grey("s", "the SFT model"),
        Line2D([], [], color=QUIET, linewidth=2, label="95% interval of the gain"),
    ]
    axes.legend(handles=handles, loc="lower right", fontsize=10, frameon=False, labelcolor=INK)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.2 * (high - low), high)


def _grey(marker: Any, label: str) -> Line2D:
    edge = QUIET if marker == "s" else INK
    return Line2D(
        [], [], linestyle="none", marker=marker, markersize=9, color=QUIET, markeredgecolor=edge,
        label=label,
    )  # fmt: skip


def _wrapped(text: str) -> str:
    """Break a sentence into lines, but no interval."""
    whole = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return "\n".join(textwrap.wrap(whole, 84))
