"""Pages of one model on one task: what it confuses, or its scores against people's; by prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.rows import read_json, read_rows
from tasks.reports.style import BLUE, QUIET, cell, new_figure, save_png, style_axes, table
from tasks.run.spec import Page, Result

LABEL = 40
"""Characters of a class's name, and of a text."""
TEXT = 80
MISTAKES = 5
"""Rows shown that the model was surest of and wrong about."""
WORDS = {"zero": "none", "one": "one", "few": "a few"}


def understanding_page(result: Result, plots: Path) -> Page:
    """Show accuracy beside the baselines with a confusion table, or scores against labels."""
    task = read_json(result.folder / "task.json")["task"]
    rows = read_rows(result.folder / "predictions.jsonl")
    config, metrics = result.parameters["understand"], result.metrics
    title = f"Understanding: {task['name']}"
    parts = [f"## {cell(title, LABEL)}, {_how(config)}", _numbers(metrics)]
    pictures = []
    if task["kind"] == "regression":
        picture = plots / "scores.png"
        plot_scores(rows, picture)
        pictures.append(picture)
    else:
        if task["kind"] == "classification":
            parts.append(_confusion(rows, task["labels"]))
        parts += _mistakes(rows, task["labels"])
    return Page(title=title, markdown="\n\n".join(parts) + "\n", pictures=pictures)


def in_context_page(result: Result, _plots: Path) -> Page:
    """Show accuracy by the number of examples."""
    metrics, task = result.metrics, result.parameters["task"]
    rows = [
        (
            word,
            _share(metrics, f"in_context/accuracy_{name}"),
            f"{metrics[f'in_context/examples_{name}']:.1f}",
        )
        for name, word in WORDS.items()
    ]
    title = f"In-context learning: {task}"
    parts = [
        f"## {cell(title, LABEL)}, {metrics['in_context/rows']:.0f} rows",
        "Accuracy with 95% Wilson intervals; the training rows' most frequent label gives "
        f"{metrics['in_context/majority']:.3f}.",
        table(("examples", "accuracy", "shown on average"), rows),
    ]
    return Page(title=title, markdown="\n\n".join(parts) + "\n")


def plot_scores(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw predicted scores against labels."""
    figure = new_figure(5.6, 5.0)
    axes = figure.subplots()
    style_axes(axes, "Held-out rows", "label", "predicted score")
    labels, found = ([row[name] for row in rows] for name in ("label", "prediction"))
    axes.scatter(labels, found, s=10, color=BLUE, alpha=0.35, linewidths=0)
    ends = [min(labels), max(labels)]
    axes.plot(ends, ends, color=QUIET, linewidth=1.0, linestyle=":")
    save_png(figure, path)


def _how(config: Mapping[str, Any]) -> str:
    words = [f"{config['initial']} weights"]
    if config["trunk"] == "frozen":
        words.append("frozen trunk")
    if config["auxiliary_weight"]:
        words.append(f"auxiliary loss x {config['auxiliary_weight']:g}")
    return ", ".join(words)


def _numbers(metrics: Mapping[str, float]) -> str:
    rows = f"{metrics['understand/heldout_rows']:,.0f} held-out rows"
    if "understand/correlation" in metrics:
        return (
            f"Pearson's correlation {_share(metrics, 'understand/correlation')}, Spearman's "
            f"{metrics['understand/spearman']:.3f}, on {rows}."
        )
    beside = [f"the most frequent label {metrics['understand/majority']:.3f}"]
    if "understand/baseline" in metrics:
        beside.append(f"a bag of words {metrics['understand/baseline']:.3f}")
    return (
        f"Accuracy {_share(metrics, 'understand/accuracy')} (95% Wilson interval) on {rows}; "
        f"{', '.join(beside)}."
    )


def _confusion(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    counts = Counter((row["label"], row["prediction"]) for row in rows)
    names = [cell(name, LABEL) for name in labels]
    lines = [
        (name, *(counts[label, found] for found in range(len(names))))
        for label, name in enumerate(names)
    ]
    return table(("label \\ predicted", *names), lines)


def _mistakes(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    """The rows that the model was surest of, and wrong about."""
    wrong = [row for row in rows if row["prediction"] != row["label"]]
    wrong.sort(key=lambda row: -row["probabilities"][row["prediction"]])
    if not wrong:
        return []

    def name(row: Mapping[str, Any], number: int) -> str:
        return cell(labels[number] if labels else row["texts"][1 + number], LABEL)

    lines = [
        (
            " / ".join(cell(text, TEXT) for text in (row["texts"] if labels else row["texts"][:1])),
            name(row, row["label"]),
            name(row, row["prediction"]),
            f"{row['probabilities'][row['prediction']]:.2f}",
        )
        for row in wrong[:MISTAKES]
    ]
    header = ("surest mistakes", "label", "predicted", "probability")
    return [table(header, lines, text_columns=3)]


def _share(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f} [{metrics[f'{name}_low']:.3f}, {metrics[f'{name}_high']:.3f}]"
