"""A stage's curves as a file beside its result: they outlive a crash and every server.

One JSON line a step. An attempt that was killed leaves steps that the next one repeats, and
perhaps half a line; reading keeps the last value of each step.
"""

import json
from collections.abc import Mapping
from pathlib import Path

HISTORY = "metrics.jsonl"


def append_history(folder: Path, metrics: Mapping[str, float], step: int) -> None:
    """Add the metrics of a step."""
    with (folder / HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "metrics": dict(metrics)}) + "\n")


def end_torn_line(folder: Path) -> None:
    """Close a line that a kill cut off, so that the next one stands alone."""
    path = folder / HISTORY
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def read_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a stage's curves: (step, value) by metric, in step order, each step once."""
    curves: dict[str, dict[int, float]] = {}
    path = folder / HISTORY
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:  # torn by a kill in mid-line
            continue
        for name, value in entry["metrics"].items():
            curves.setdefault(name, {})[entry["step"]] = value
    return {name: sorted(points.items()) for name, points in curves.items()}
