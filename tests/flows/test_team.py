"""The chain in two processes: what one process gives, whoever is cancelled on the way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flows.pipeline import PipelineResult
from tasks.results.store import Manifest, StageRef

pytestmark = pytest.mark.slow

KEPT = ("prepare", "tokenizer", "pretrain", "feedback", "reward-quality")
"""Stages that two processes find finished: a start for each would take a minute more."""

WEIGHTS = 1e-4
"""How far weights may be apart, relative to the largest of each tensor: sums differ in rounding."""


def test_two_processes_give_what_one_gives(
    first_run: PipelineResult,
    first_home: Any,
    new_home: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = new_home()
    for ref in first_run.stages:
        if ref.stage in KEPT:
            shutil.copytree(first_home.folder(ref), home.folder(ref))
    monkeypatch.setenv("QUARTET_PROCESSES", "2")
    together = home.tiny()

    assert [ref.digest for ref in together.stages] == [ref.digest for ref in first_run.stages]
    for ref in together.stages:
        alone, manifest = (Manifest.read(one.folder(ref)) for one in (first_home, home))
        assert alone.scale.get("processes", 1) == 1
        if ref.stage in KEPT:
            continue
        assert manifest.scale["processes"] == 2, ref.stage
        assert set(manifest.files) == set(alone.files), ref.stage
        assert_equal_weights(first_home.folder(ref), home.folder(ref))
        assert_equal_curves(first_home.folder(ref), home.folder(ref))
    assert accepted(first_run.stages[-1]) == accepted(together.stages[-1])


def assert_equal_weights(alone: Path, together: Path) -> None:
    for path in alone.rglob("*.safetensors"):
        mine, theirs = load_file(path), load_file(together / path.relative_to(alone))
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            apart = float((tensor - theirs[name]).abs().max())
            assert apart <= WEIGHTS * float(tensor.abs().max()) + 1e-7, f"{path}: {name}"


def assert_equal_curves(alone: Path, together: Path) -> None:
    """The same metrics at the same steps, each logged once."""
    steps = [
        [(row["step"], sorted(row["metrics"])) for row in map(json.loads, file.open())]
        for file in (alone / "metrics.jsonl", together / "metrics.jsonl")
    ]
    assert steps[0] == steps[1]


def accepted(ref: StageRef) -> float:
    return ref.metrics["final/accepted"]
