"""A stage's curves as a file beside its result: they outlive a crash and every server.

One JSON line a step. An attempt that was killed leaves steps that the next one repeats, and
perhaps half a line; reading keeps the last value of each step.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tasks.results.store import write_whole

logger = logging.getLogger(__name__)

HISTORY = "metrics.jsonl"


class Line(BaseModel, frozen=True, strict=True):
    """One line of the file."""

    step: int
    metrics: dict[str, float]


def append_history(folder: Path, metrics: Mapping[str, float], step: int) -> None:
    """Add the metrics of a step."""
    with (folder / HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "metrics": dict(metrics)}) + "\n")


def repair_history(folder: Path) -> None:
    """Leave out lines that a kill or a bad disk damaged, so that the next one stands alone."""
    path = folder / HISTORY
    content = path.read_bytes() if path.exists() else b""
    lines = [line for line in content.split(b"\n") if line]
    whole = [line for line in lines if _parse(line) is not None]
    if len(whole) < len(lines):
        logger.warning("%s: %d damaged lines are left out", path, len(lines) - len(whole))
    kept = b"".join(line + b"\n" for line in whole)
    if kept != content:
        write_whole(path, kept.decode())


def read_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a stage's curves: (step, value) by metric, in step order, each step once."""
    curves: dict[str, dict[int, float]] = {}
    path = folder / HISTORY
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        if (entry := _parse(line)) is not None:
            for name, value in entry.metrics.items():
                curves.setdefault(name, {})[entry.step] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


def _parse(line: bytes) -> Line | None:
    """A line; None where it is torn or says something else."""
    try:
        return Line.model_validate_json(line)
    except ValidationError:
        return None
