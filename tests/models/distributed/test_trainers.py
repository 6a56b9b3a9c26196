"""Pretraining, SFT and reward modelling in a team: the same learning as in one process.

Batches of 5 rows, the last one of a single row, so that no number of members divides them and some
member has none; elements of one and of several pairs, with ties and margins.
"""

import hashlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from models.checkpoints import is_intact, latest
from models.distributed.team import current_team
from models.errors import DivergedError
from models.language.config import ArchitectureConfig, SamplingConfig
from models.reward.config import RewardStageConfig
from models.reward.training import train_reward_model
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.config import PretrainConfig, SFTStageConfig
from models.training.packed_trainers import PackedSFTTrainer
from models.training.pretraining import pretrain
from models.training.setup import GuardedTrainer
from models.training.sft import finetune
from tests.models.distributed.processes import in_team

STOPPED = 3
"""In this step one member gets a signal."""
STAGES = {"pretrain": pretrain, "sft": finetune, "reward": train_reward_model}
TRAINER: dict[str, Any] = {"batch_size": 5, "learning_rate": 5e-3, "checkpoint_steps": 2}
WORDS = ["sat", "ran", "slept", "is", "and", "over", "it", "a", "two", "dog", "hill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a run logged and returned, and a hash of the weights at its first step."""

    logged: list[tuple[int, dict[str, float]]]
    final: dict[str, float]
    began: str


def gathered(weight: torch.Tensor) -> torch.Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    whole = (gathered(weights[name].detach()) for name in sorted(weights))
    parts = [one.numpy().tobytes() for one in whole]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def learn(
    stage: str, given: Mapping[str, Any], folder: Path, signalled: int | None = None
) -> Learned | str:
    """Run a stage in a folder; `signalled` is the rank that gets a signal in step STOPPED.

    Returns:
        What ended it, if it did not come to its end.
    """
    logged: list[tuple[int, dict[str, float]]] = []
    began: list[str] = []
    original = GuardedTrainer.training_step

    def watched(self: Any, *args: Any) -> Any:
        if not began:
            began.append(fingerprint(dict(self.model.named_parameters())))
        loss = original(self, *args)
        if self.state.global_step + 1 == STOPPED and current_team().rank == signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    def leave(*_: object) -> None:
        raise SystemExit(143)

    (folder / "out").mkdir(parents=True, exist_ok=True)
    run = TrainingRun(
        out=folder / "out", checkpoints=folder / "checkpoints", seed=5, device="cpu",
        log=lambda metrics, step: logged.append((step, dict(metrics))),
    )  # fmt: skip
    before = signal.signal(signal.SIGTERM, leave)
    GuardedTrainer.training_step = watched
    try:
        final = STAGES[stage](**given, run=run)
    except (SystemExit, KeyboardInterrupt) as error:
        return type(error).__name__
    finally:
        GuardedTrainer.training_step = original
        signal.signal(signal.SIGTERM, before)
    return Learned(logged=logged, final=final, began=began[0])


def diverge(given: Mapping[str, Any], folder: Path) -> str:
    """Run SFT, whose loss is no number in step STOPPED on the last rank; say what was raised."""
    original = PackedSFTTrainer.compute_loss

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        team = current_team()
        strikes = self.state.global_step + 1 == STOPPED and team.rank == team.size - 1
        return loss * float("nan") if strikes else loss

    PackedSFTTrainer.compute_loss = broken
    try:
        learn("sft", given, folder)
    except DivergedError as error:
        return str(error)
    finally:
        PackedSFTTrainer.compute_loss = original
    return "nothing"


def two_members(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a team of two does with each stage: all of it; and up to a stop, and from there on."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        found[stage] = learn(stage, given[stage], folder / stage)
        stopped = folder / f"{stage}.stopped"
        found[f"{stage} stopped"] = learn(stage, given[stage], stopped, signalled=1)
        if current_team().leads:
            for copy in ("1", "2", "3"):
                shutil.copytree(stopped, folder / f"{stage}.resumed.{copy}")
        current_team().wait()
        found[f"{stage} resumed"] = learn(stage, given[stage], folder / f"{stage}.resumed.2")
    found["diverged"] = diverge(given["sft"], folder / "diverged")
    return found


def three_members(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a team of three does with each stage, and with what two have begun."""
    found = {stage: learn(stage, given[stage], folder / f"{stage}.3") for stage in STAGES}
    return found | {
        f"{stage} resumed": learn(stage, given[stage], folder / f"{stage}.resumed.3")
        for stage in STAGES
    }


@pytest.fixture(scope="module")
def given(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: Path,
    base_folder: Path,
    corpus_file: Path,
    tiny_architecture: ArchitectureConfig,
) -> dict[str, dict[str, Any]]:
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(
        rows,
        [
            {
                "prompt": f"the {WORDS[at % 11]}",
                "completion": " on the mat" * (1 + at % 3),
                "chosen": " ran home" * (1 + at % 4),
                "rejected": f" slept {at} days",
                "margin": 0.5 * (at % 2) * (at % 4 != 1),
                "tie": at % 4 == 1,
            }
            for at in range(16)  # of five prompts two
        ],
    )
    sampling = SamplingConfig(max_completion_tokens=4)
    return {
        "pretrain": {
            "tokenizer": tokenizer_folder,
            "corpus": corpus_file,
            "heldout": corpus_file,
            "architecture": tiny_architecture,
            "config": PretrainConfig(steps=5, block_tokens=16, **TRAINER),
        },
        "sft": {
            "base": base_folder,
            "demonstrations": rows,
            "heldout": rows,
            "config": SFTStageConfig(epochs=21 / 16, **TRAINER),  # 5 steps, the last of one row
        },
        "reward": {
            "sft": base_folder,
            "preferences": rows,
            "heldout": rows,
            "prompts": rows,
            "contrasts": None,
            "sampling": sampling,
            "config": RewardStageConfig(
                epochs=21 / 11, batch_element="prompt", moment_samples=16, **TRAINER
            ),
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("team")


@pytest.fixture(scope="module")
def two(given: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    return in_team(2, two_members, given, folder, scratch=folder)


@pytest.fixture(scope="module")
def three(given: dict[str, Any], folder: Path, two: Any) -> list[dict[str, Any]]:
    return in_team(3, three_members, given, folder, scratch=folder)


@pytest.fixture(scope="module")
def alone(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {stage: learn(stage, given[stage], folder / f"{stage}.1") for stage in STAGES}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / "model.safetensors")


def distance(one: Path, other: Path) -> float:
    """The greatest relative distance of a tensor of two published models."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).norm() / a[name].norm()) for name in a)


def published(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in paths}


def assert_same_learning(alone: Learned, team: Learned) -> None:
    """Every logged number of a step is the same to 1e-5, whoever computed it."""
    assert [(step, metrics.keys()) for step, metrics in alone.logged] == [
        (step, metrics.keys()) for step, metrics in team.logged
    ]
    for (step, one), (_, other) in zip(alone.logged, team.logged, strict=True):
        for name, value in one.items():
            # Near zero (margins of scores in the first steps) float32 leaves 1e-7 of scores of 1.
            assert other[name] == pytest.approx(value, rel=1e-5, abs=2e-6), (step, name)
    assert team.final == pytest.approx(alone.final, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_two_members_learn_what_one_does(
    stage: str, alone: dict[str, Any], two: list[dict[str, Any]], folder: Path
) -> None:
    assert_same_learning(alone[stage], two[0][stage])
    assert two[1][stage].logged == two[0][stage].logged  # and so are the ranks' bits equal
    assert two[1][stage].final == two[0][stage].final
    assert distance(folder / f"{stage}.1", folder / stage) < 1e-4


@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_to_one_member_stops_all_after_the_same_step(
    stage: str, two: list[dict[str, Any]], folder: Path
) -> None:
    assert [one[f"{stage} stopped"] for one in two] == ["SystemExit", "SystemExit"]
    checkpoint = latest(folder / f"{stage}.stopped" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{STOPPED}"
    assert published(folder / f"{stage}.stopped") == {}


@pytest.mark.parametrize("stage", STAGES)
def test_two_members_resume_to_the_same_bytes(
    stage: str, two: list[dict[str, Any]], folder: Path
) -> None:
    resumed = two[0][f"{stage} resumed"]
    assert published(folder / f"{stage}.resumed.2") == published(folder / stage)
    assert resumed.logged == [one for one in two[0][stage].logged if one[0] > STOPPED]
    assert resumed.final == two[0][stage].final


@pytest.mark.parametrize("stage", STAGES)
def test_one_process_resumes_what_two_have_begun(
    stage: str, given: dict[str, Any], two: list[dict[str, Any]], folder: Path
) -> None:
    resumed = learn(stage, given[stage], folder / f"{stage}.resumed.1")
    assert isinstance(resumed, Learned)
    _assert_begun_with_the_checkpoint(resumed, folder / f"{stage}.stopped")
    assert distance(folder / f"{stage}.resumed.1", folder / stage) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_three_members_learn_what_one_does_and_resume_what_two_have_begun(
    stage: str, alone: dict[str, Any], three: list[dict[str, Any]], folder: Path
) -> None:
    assert_same_learning(alone[stage], three[0][stage])
    assert three[0][stage].logged == three[1][stage].logged == three[2][stage].logged
    assert distance(folder / f"{stage}.1", folder / f"{stage}.3") < 1e-4
    _assert_begun_with_the_checkpoint(three[2][f"{stage} resumed"], folder / f"{stage}.stopped")
    assert distance(folder / f"{stage}.resumed.3", folder / stage) < 1e-4


def _assert_begun_with_the_checkpoint(resumed: Learned, stopped: Path) -> None:
    saved = load_file(stopped / "checkpoints" / f"checkpoint-{STOPPED}" / "model.safetensors")
    assert resumed.began == fingerprint(saved)


def test_a_loss_that_is_no_number_on_one_member_ends_all_with_the_state_before(
    two: list[dict[str, Any]], folder: Path
) -> None:
    for one in two:
        assert f"the loss is nan and its gradient's norm nan at step {STOPPED}" in one["diverged"]
    checkpoints = folder / "diverged" / "checkpoints"
    assert is_intact(checkpoints / f"checkpoint-{STOPPED - 1}")
    assert not (checkpoints / f"checkpoint-{STOPPED}").exists()
