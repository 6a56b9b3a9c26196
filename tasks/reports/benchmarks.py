"""Pages of benchmarks: multiple choice on the user's own questions, and published benchmarks."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.rows import read_json
from models.statistics.intervals import Interval
from tasks.escaping import for_markdown
from tasks.reports.style import cell, table
from tasks.run.spec import Page, Result

MEASURES = {
    "accuracy": "accuracy",
    "accuracy_norm": "accuracy by likelihood per byte",
    "exact_match": "whole completion",
    "last_word": "last word",
}
"""What measures of multiple choice and cloze are called."""
LABEL = 80
"""Characters of a model's, task's or metric's name."""


def multiple_choice_page(result: Result, _plots: Path) -> Page:
    """Show all models side by side, the gains over the first one, and the subjects."""
    results = read_json(result.folder / "results.json")
    config, models = result.parameters["multiple_choice"], results["models"]
    first, *others = models
    chance = models[first]["chance"]
    shown_first = cell(first, LABEL)
    parts = [
        f"## {cell(results['questions'], 80)}: {results['rows']} questions, "
        f"{config['shots']} examples shown, {config['prompt']} prompts",
        "Accuracy with 95% Wilson intervals"
        + ("." if math.isnan(chance) else f"; guessing gives {chance:.3f}."),
        _accuracies(models),
    ]
    for label in others:
        gains = models[label]["gains"].items()
        shown = ", ".join(f"{MEASURES[name]} {Interval(**gain)}" for name, gain in gains)
        parts.append(f"{cell(label, LABEL)} less {shown_first}, paired by question: {shown}.")
    if models[first]["subjects"]:
        parts.append(_subjects(models))
    return Page(title="Multiple choice and cloze", markdown="\n\n".join(parts) + "\n")


def lm_eval_page(result: Result, _plots: Path) -> Page:
    """Show a model's tasks and metrics as lm-evaluation-harness gives them."""
    results = json.loads((result.folder / "results.json").read_text(encoding="utf-8"))
    used = result.parameters["lm_eval"]
    title = f"{used['label']} on published benchmarks, lm-evaluation-harness {used['version']}"
    header = ("task", "examples shown", "rows", "metric", "value", "standard error")
    return Page(
        title=title,
        markdown=f"## {for_markdown(title)}\n\n{table(header, _harness_rows(results))}\n",
    )


def _accuracies(models: Mapping[str, Any]) -> str:
    measures = list(next(iter(models.values()))["measures"])
    named = (MEASURES[name] for name in measures)
    header = ("model", *named, "perplexity of the right answer", "contexts cut")
    rows = []
    for label, model in models.items():
        shares = (_share(model["measures"][name]) for name in measures)
        rows.append(
            (cell(label, LABEL), *shares, f"{model['perplexity']:.4g}", model["cut_contexts"])
        )
    return table(header, rows)


def _subjects(models: Mapping[str, Any]) -> str:
    first = next(iter(models.values()))
    measure = next(iter(first["measures"]))
    rows = (
        (cell(subject, 60), *(_share(one["subjects"][subject][measure]) for one in models.values()))
        for subject in first["subjects"]
    )
    return table((f"subject ({MEASURES[measure]})", *(cell(one, LABEL) for one in models)), rows)


def _harness_rows(results: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for task, numbers in results["results"].items():
        shots = results.get("n-shot", {}).get(task, "")
        rows = results.get("n-samples", {}).get(task, {}).get("effective", "")
        for key, value in numbers.items():
            name, comma, used = key.partition(",")
            if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = numbers.get(f"{name}_stderr,{used}")
            called = name if used == "none" else f"{name} ({used})"
            shown = f"{error:.4f}" if isinstance(error, float) else ""
            yield cell(task, LABEL), shots, rows, cell(called, LABEL), f"{value:.4f}", shown


def _share(share: Mapping[str, float]) -> str:
    return f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"
