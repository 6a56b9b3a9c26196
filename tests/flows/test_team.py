"""The chain in two processes gives what one gives, whoever samples the rollouts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flows.pipeline import PipelineResult
from tasks.results.store import Manifest, StageRef
from tests.models.rollouts.served import KEY, served

pytestmark = pytest.mark.campaign

KEPT = ("prepare", "tokenizer", "pretrain", "feedback", "reward-quality")
"""Stages that two processes find finished: a start for each would take a minute more."""

WEIGHTS = 1e-4
"""How far weights may be apart, relative to the largest of each tensor: sums differ in rounding."""


@pytest.fixture
def home_with(
    first_run: PipelineResult, first_home: Any, new_home: Callable[[], Any]
) -> Callable[..., Any]:
    """Make a home folder with some of the first run's stages."""

    def make(*stages: str) -> Any:
        home = new_home()
        for ref in first_run.stages:
            if ref.stage in stages:
                shutil.copytree(first_home.folder(ref), home.folder(ref))
        return home

    return make


def test_two_processes_give_what_one_gives(
    first_run: PipelineResult,
    first_home: Any,
    home_with: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = home_with(*KEPT)
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


def test_rollouts_from_a_server_serve_one_process_and_two(
    first_run: PipelineResult,
    first_home: Any,
    home_with: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    by_stage = {ref.stage: ref for ref in first_run.stages}
    found = []
    with served(first_home.folder(by_stage["sft"]), tmp_path) as server:
        monkeypatch.setenv("QUARTET_ROLLOUT_SERVER", server.url)
        monkeypatch.setenv("QUARTET_ROLLOUT_FOLDER", str(server.folder))
        monkeypatch.setenv("QUARTET_ROLLOUT_KEY", KEY)
        for processes in (1, 2):
            monkeypatch.setenv("QUARTET_PROCESSES", str(processes))
            home = home_with(*KEPT, "sft", "reward")
            result = home.tiny("ppo.rollout_engine=server")
            (ppo,) = (ref for ref in result.stages if ref.stage == "ppo")
            assert Manifest.read(home.folder(ppo)).scale.get("processes", 1) == processes
            assert ppo.digest != by_stage["ppo"].digest
            errors = [
                row["metrics"]["ppo/objective/sampler_error"]
                for row in map(json.loads, (home.folder(ppo) / "metrics.jsonl").open())
                if "ppo/objective/sampler_error" in row["metrics"]
            ]
            assert len(errors) == 4, "one an iteration"
            assert max(errors) <= 1e-4, "the server sampled from these weights"
            found.append(home.folder(ppo))
        assert not list(server.folder.iterdir()), "weights and key are gone"
    assert_equal_weights(*found)
    assert_equal_curves(*found)


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
