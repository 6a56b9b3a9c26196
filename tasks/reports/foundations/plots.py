"""Pictures of families of models: bits per byte, what pretraining gives, BLEU by length."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.reports.style import (
    BLUE,
    INK,
    ORANGE,
    QUIET,
    RUN_COLOURS,
    add_legend,
    new_figure,
    save_png,
    say_empty,
    style_axes,
)

Rows = Sequence[Mapping[str, Any]]


def plot_bits_per_byte(rows: Rows, path: Path) -> None:
    """Draw a bar for each language model, the best at the bottom."""
    known = [(row["name"], metric_of(row["metrics"], "bits_per_byte")) for row in rows]
    known = [(name, value) for name, value in known if math.isfinite(value)]
    figure = new_figure(8.0, 1.2 + 0.42 * max(3, len(known)))
    axes = figure.add_subplot()
    style_axes(axes, "Language models", "bits per byte of held-out captions (less is better)", "")
    if not known:
        say_empty(axes)
    known.sort(key=lambda one: one[1])
    axes.barh([name for name, _ in known], [value for _, value in known], color=BLUE, height=0.6)
    for at, (_, value) in enumerate(known):
        axes.annotate(
            f"{value:.3f}", (value, at), (4, 0), textcoords="offset points", va="center",
            fontsize=10, color=INK,
        )  # fmt: skip
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    save_png(figure, path)


def plot_understanding(rows: Rows, path: Path) -> None:
    """Draw, a panel for each task, models from pretrained and from random weights."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = new_figure(8.0, 0.6 + 2.9 * math.ceil(len(tasks) / 2))
    for at, task in enumerate(tasks):
        axes = figure.add_subplot(math.ceil(len(tasks) / 2), min(2, len(tasks)), at + 1)
        own = [row for row in rows if row["task"] == task]
        metric = "correlation" if "understand/correlation" in own[0]["metrics"] else "accuracy"
        style_axes(axes, task, "", metric)
        names = list(dict.fromkeys(row["name"] for row in own))
        for index, variant in enumerate(("random", "", "auxiliary")):
            chosen = [row for row in own if row["variant"] == variant]
            if not chosen:
                continue
            places = [names.index(row["name"]) + 0.27 * (index - 1) for row in chosen]
            values = [metric_of(row["metrics"], metric) for row in chosen]
            ends = [
                [abs(value - metric_of(row["metrics"], f"{metric}_{end}")) for row, value in
                 zip(chosen, values, strict=True)]
                for end in ("low", "high")
            ]  # fmt: skip
            axes.bar(
                places, values, width=0.25, color=(QUIET, BLUE, ORANGE)[index],
                yerr=ends, ecolor=INK, capsize=2, label=variant or "pretrained",
            )  # fmt: skip
        majority = metric_of(own[0]["metrics"], "majority")
        if math.isfinite(majority):
            label = "most frequent answer"
            axes.axhline(majority, color=INK, linewidth=1.0, linestyle="--", label=label)
        axes.set_xticks(range(len(names)), names)
        axes.grid(False, axis="x")
    named: dict[str, Any] = {}  # no panel needs to have all of them
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(named.values()), list(named), loc="outside lower center", ncols=4, fontsize=10,
        frameon=False, labelcolor=INK,
    )  # fmt: skip
    save_png(figure, path)


def plot_bleu_by_length(rows: Rows, path: Path) -> None:
    """Draw BLEU over the length of the source, a line for each model."""
    figure = new_figure(8.0, 4.4)
    axes = figure.add_subplot()
    style_axes(axes, "Translation", "words of the source", "BLEU")
    lengths = ("short", "middle", "long")
    for row, colour in zip(rows, RUN_COLOURS * 2, strict=False):
        values = [metric_of(row["metrics"], f"bleu_{length}") for length in lengths]
        label = f"{row['name']} {row['variant']}".strip()
        axes.plot(range(3), values, "o-", color=colour, linewidth=2, label=label)
    axes.set_xticks(range(3), ("up to 10", "11 to 15", "more than 15"))
    axes.set_ylim(bottom=0)
    add_legend(axes)
    save_png(figure, path)


def metric_of(metrics: Mapping[str, float], name: str) -> float:
    """A metric, whichever stage made it."""
    return float(next((v for k, v in metrics.items() if k.partition("/")[2] == name), math.nan))
