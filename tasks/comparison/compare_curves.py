"""The comparison's learning curves: those of every stage overlaid, one panel a metric."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.comparison.plots import add_run_legend, give_room
from tasks.comparison.runs import RunRecord
from tasks.reports.style import INK, RUN_COLOURS, new_figure, save_png, say_empty, style_axes

PANELS: Mapping[str, tuple[str, str, str, str]] = {
    "pretrain/loss": ("pretrain", "Pretraining: loss", "step", "nats a token"),
    "sft/loss": ("sft", "SFT: loss", "step", "nats a token"),
    "reward/loss": ("reward", "Reward model: loss", "step", "nats a pair"),
    "reward/train_accuracy": (
        "reward",
        "Reward model: training accuracy",
        "step",
        "share of pairs",
    ),
    "judge/loss": ("judge", "Held-out reward model: loss", "step", "nats a pair"),
    "judge/train_accuracy": (
        "judge",
        "Held-out reward model: accuracy",
        "step",
        "share of pairs",
    ),
    "ppo/objective/score": ("ppo", "PPO: score by its reward model", "iteration", "mean score"),
    "ppo/objective/kl_to_reference": (
        "ppo",
        "PPO: distance from the SFT model",
        "iteration",
        "KL (nats a completion)",
    ),
    "ppo/objective/completion_tokens": ("ppo", "PPO: length", "iteration", "tokens a completion"),
    "ppo/objective/entropy": ("ppo", "PPO: uncertainty left", "iteration", "entropy (nats)"),
    "ppo/objective/distinct_2": ("ppo", "PPO: diversity", "iteration", "distinct-2"),
    "ppo/value/explained_variance": (
        "ppo",
        "PPO: how well the critic predicts",
        "iteration",
        "explained variance",
    ),
}
"""Of each metric the stage, the panel's title, and the axes."""

MANY = 60
"""With more points than this a curve is drawn pale with its running mean on top."""

LOWEST_VARIANCE = -1.0
"""A critic that has not learned yet is worse than any bound; below this nothing is told."""


def plot_curves(
    records: Sequence[RunRecord], labels: Sequence[str], stages: Sequence[str], path: Path
) -> bool:
    """Draw the learning curves of some stages, one panel a metric, one colour a run.

    A result that all runs share is drawn once; one that some share in dashes of their colours.

    Returns:
        Whether there was anything to draw.
    """
    names = [
        name
        for name, panel in PANELS.items()
        if panel[0] in stages and any(record.curves.get(name) for record in records)
    ]
    if not names:
        return False
    rows = math.ceil(len(names) / 2)
    figure = new_figure(9.0, 2.6 * rows + 0.25 * len(records) + 0.3)
    for place, name in enumerate(names, start=1):
        _draw_panel(figure.add_subplot(rows, 2, place), records, name)
    shared = [_is_shared(records, name) for name in names]
    common = "one result that all these runs share" if any(shared) else ""
    add_run_legend(figure, () if all(shared) else labels, common=common)
    give_room(figure)
    save_png(figure, path)
    return True


def smooth(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Running mean over as many neighbours on each side."""
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def _draw_panel(axes: Any, records: Sequence[RunRecord], name: str) -> None:
    stage, title, x_label, y_label = PANELS[name]
    digests = [record.stages.get(stage, record.run_id) for record in records]
    having = [index for index, record in enumerate(records) if record.curves.get(name)]
    shared = _is_shared(records, name)
    style_axes(axes, title, x_label, y_label)
    for index in having[:1] if shared else having:
        points = np.array(records[index].curves[name], dtype=np.float64)
        points = points[np.isfinite(points).all(axis=1)]
        if name == "ppo/value/explained_variance":
            points[:, 1] = np.maximum(points[:, 1], LOWEST_VARIANCE)
        same = [other for other in having if digests[other] == digests[index]]
        style: Any = "-"
        if not shared and len(same) > 1:  # each gets its turn in the dashes
            style = (6 * same.index(index), (6, 6 * (len(same) - 1)))
        _draw_line(axes, points, INK if shared else RUN_COLOURS[index], style)
    if not axes.lines:
        say_empty(axes)


def _is_shared(records: Sequence[RunRecord], name: str) -> bool:
    """Whether all runs that have a metric have it from the very same result."""
    stage = PANELS[name][0]
    digests = [record.stages.get(stage, "") for record in records if record.curves.get(name)]
    return len(digests) > 1 and len(set(digests)) == 1


def _draw_line(axes: Any, points: NDArray[np.float64], colour: str, style: Any) -> None:
    if not len(points):
        return
    steps, values = points[:, 0], points[:, 1]
    if len(points) > MANY:
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.25)
        values = smooth(values, max(2, len(points) // 60))
    axes.plot(steps, values, color=colour, linewidth=1.8, linestyle=style)
