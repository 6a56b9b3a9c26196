"""Families of models over seeds: every number of the report, and how often each claim held.

    python tests/benchmarks/foundations.py [--home FOLDER] [--seeds 0 1 2] [path.to.field=value ...]

Each seed is a run of `quartet run foundations` in a process of its own; with `--home` finished
stages are reused, so a measurement that was cut off goes on. Prints a table of models (the mean of
each number over the seeds, and its smallest and largest) and one of claims.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment import run

NUMBERS = {
    "bits_per_byte": ".3f",
    "masked_accuracy": ".3f",
    "next_sentence_accuracy": ".3f",
    "restored_accuracy": ".3f",
    "accuracy": ".3f",
    "correlation": ".3f",
    "bleu": ".1f",
    "bleu_long": ".1f",
    "accuracy_zero": ".3f",
    "accuracy_few": ".3f",
}
"""Of a model, by the end of the metric's name."""


def spread(values: Sequence[float], form: str) -> str:
    """The mean, with the smallest and the largest of several."""
    mean = format(statistics.mean(values), form)
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):{form}} to {max(values):{form}})"


def model_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each number of each model."""
    rows = []
    for position, model in enumerate(results[0]["models"]):
        runs = [result["models"][position] for result in results]
        seconds = spread([one["seconds"] for one in runs], ".0f")
        for metric in model["metrics"]:
            form = NUMBERS.get(metric.partition("/")[2])
            if form is not None:
                values = spread([one["metrics"][metric] for one in runs], form)
                rows.append([model["part"], model["role"], metric, values, seconds])
    return rows


def claim_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each claim: its difference over the seeds, and the verdicts."""
    rows = []
    for position, claim in enumerate(results[0]["claims"]):
        runs = [result["claims"][position] for result in results]
        differences = spread([one["difference"]["mean"] for one in runs], "+.3f")
        verdicts = ", ".join(one["verdict"] for one in runs)
        rows.append([claim["claim"], claim["source"], differences, verdicts])
    return rows


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of Markdown."""
    for line in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(line)} |", flush=True)
    print()


def main() -> None:
    """Run every seed and print both tables."""
    parser = argparse.ArgumentParser(description="Families of models over seeds.")
    parser.add_argument("--home", type=Path, help="Home folder whose stages are reused.")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("settings", nargs="*", help="path.to.field=value")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch)
        results = [
            run(home, ["run", "foundations"], [f"seed={seed}", *given.settings])
            for seed in given.seeds
        ]
    print_table(("part", "model", "number", "mean (range)", "seconds"), model_rows(results))
    print_table(("claim", "source", "difference as claimed", "here, by seed"), claim_rows(results))
    print(f"whole runs: {spread([one['seconds'] for one in results], '.0f')} s")


if __name__ == "__main__":
    main()
