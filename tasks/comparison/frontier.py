"""The picture of over-optimisation: what each run's score, and what a judge, make of distance.

The further PPO takes a policy from its SFT model, the higher its own reward model scores it; past
some distance a judge that PPO has not learned from no longer agrees. The axis of KL has the scale
of its square root, in which Gao et al. found both curves simple.

Source: Gao, Schulman and Hilton, Scaling Laws for Reward Model Overoptimization (2023), section 3.
"""

import math
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.comparison.plots import add_run_legend, annotate, give_room
from tasks.comparison.runs import JUDGES, RunRecord, letter
from tasks.comparison.statistics import gain_of, keep_whole, same_judge
from tasks.reports.style import (
    INK,
    QUIET,
    RUN_COLOURS,
    legend_entry,
    new_figure,
    save_png,
    smooth,
    style_axes,
)

OUTSIDE = tuple(name for name in JUDGES if name != "score")
"""Judges that PPO does not learn from, the most trusted first."""

MARKERS = {"accepted": "o", "rejected": "X", "not enough prompts": "D"}


def outside_judge(records: Sequence[RunRecord]) -> str | None:
    """The most trusted judge other than PPO's own reward model that judged all evaluated runs."""
    judged = [record for record in records if record.verdict]
    judge = same_judge(judged, OUTSIDE)
    return judge if all(f"{judge}_ppo" in record.final for record in judged) else None


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
    """Draw score, and beside it an outside judge's, against KL; False where there is nothing."""
    trained = any(record.curves.get("ppo/objective/score") for record in records)
    if not trained and not any(record.verdict for record in records):
        return False
    judge = outside_judge(records)
    same = len({record.judges.get("score") for record in records if record.judges}) <= 1
    titles = {"score": "What the reward model sees" if same else "Score (different reward models!)"}
    if judge:
        titles[judge] = f"What the {JUDGES[judge]} sees"
    figure = new_figure(9.0, 4.9 + 0.25 * len(records))
    for place, (name, title) in enumerate(titles.items(), start=1):
        axes = figure.add_subplot(1, len(titles), place)
        x_label = "KL to reference (nats, square-root scale)"
        style_axes(axes, title, x_label, f"mean by the {JUDGES[name]}")
        for index, record in enumerate(records if name == "score" else ()):
            _draw_path(axes, record, RUN_COLOURS[index])
        for index, record in enumerate(records):
            _draw_end(axes, record, name, index)
        _scale(axes)
    give_room(figure)
    _explain(figure.axes, {record.verdict for record in records})
    finding = frontier_finding(records) or "What did each run buy with its distance from SFT?"
    wrapped = "\n".join(textwrap.wrap(keep_whole(finding), 84))
    figure.suptitle(wrapped, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")
    add_run_legend(figure, labels)
    save_png(figure, path)
    return True


def _draw_path(axes: Any, record: RunRecord, colour: str) -> None:
    kl = dict(record.curves.get("ppo/objective/kl_to_reference", ()))
    scores = record.curves.get("ppo/objective/score", ())
    points = np.array([(kl.get(step, math.nan), score) for step, score in scores], dtype=np.float64)
    points = points.reshape(-1, 2)
    x, y = points[np.isfinite(points).all(axis=1)].T
    x = np.maximum(x, 0.0)
    axes.plot(x, y, "o", color=colour, markersize=3.5, alpha=0.45, mew=0)
    half = len(x) // 60  # of so many dots only the running mean shows the way
    axes.plot(smooth(x, half), smooth(y, half), color=colour, linewidth=1.0, alpha=0.45)


def _draw_end(axes: Any, record: RunRecord, judge: str, index: int) -> None:
    final, colour = record.final, RUN_COLOURS[index]
    kl, start, end = map(final.get, ("kl_to_reference", f"{judge}_sft", f"{judge}_ppo"))
    if kl is None or end is None or record.verdict not in MARKERS:
        return
    kl, gain = max(0.0, kl), gain_of(record, judge)
    if start is not None and judge != "score":
        axes.plot([0, kl], [start, end], color=colour, linewidth=1.2, linestyle=":", zorder=1)
        axes.plot([0], [start], "s", color=QUIET, markersize=8, clip_on=False, zorder=3)
    if gain is not None and judge != "score":
        ends = [end - gain.mean + gain.low, end - gain.mean + gain.high]
        axes.plot([kl, kl], ends, color=colour, linewidth=2, zorder=4)
    look = {"color": colour, "edgecolors": INK, "linewidths": 1.2, "zorder": 5}
    axes.scatter([kl], [end], marker=MARKERS[record.verdict], s=150, **look)
    annotate(axes, letter(index), (kl, end), (9, 7), fontsize=12, fontweight="bold", zorder=6)


def _scale(axes: Any) -> None:
    axes.margins(y=0.12)
    highest = max(0.05, axes.dataLim.x1 if math.isfinite(axes.dataLim.x1) else 0.05)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    axes.set_xlim(0, highest * 1.15)


def _explain(panels: Sequence[Any], verdicts: Collection[str]) -> None:
    look: dict[str, Any] = {"linestyle": "none", "markersize": 9, "color": QUIET}
    handles = [
        legend_entry(f"{verdict} (held-out prompts)", marker=marker, mec=INK, **look)
        for verdict, marker in MARKERS.items()
        if verdict in verdicts
    ]
    handles.append(legend_entry("an iteration", marker="o", color=QUIET, markersize=3.5))
    judged = [
        legend_entry("the SFT model", marker="s", **look),
        legend_entry("95% interval of the gain", color=QUIET, linewidth=2),
    ]
    for axes, marks in zip(panels, (handles, judged), strict=False):
        axes.legend(handles=marks, loc="lower right", fontsize=10, frameon=False, labelcolor=INK)
    for axes in panels[1:]:
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.2 * (high - low), high)
