"""Runs a stage as a member of a team would, and compares what came of it: shared by tests."""

import hashlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from models.distributed.team import current_team
from models.heads.training import learn_to_understand
from models.reward.training import train_reward_model
from models.runtime import TrainingRun
from models.training.denoising import pretrain_denoising
from models.training.masked import pretrain_masked
from models.training.pretraining import pretrain
from models.training.setup import GuardedTrainer
from models.training.sft import finetune

STOPPED = 3
"""In this step one member gets a signal."""
STAGES = {
    "pretrain": pretrain,
    "masked": pretrain_masked,
    "denoising": pretrain_denoising,
    "sft": finetune,
    "reward": train_reward_model,
    "understand": learn_to_understand,
}
SPREAD = ("pretrain", "sft", "reward")
"""Those whose models can be spread over processes."""
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


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (found,) = (folder / "out").rglob("model.safetensors")
    return load_file(found)


def distance(one: Path, other: Path) -> float:
    """The greatest relative distance of a tensor of two published models.

    Biases of keys are left out: attention does not depend on them, so their gradient is nothing but
    rounding, which AdamW scales to whole steps.
    """
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    names = [name for name in a if not name.endswith(("key.bias", "k_proj.bias"))]
    return max(
        float((a[name] - b[name]).norm() / a[name].norm().clamp(min=1e-12)) for name in names
    )


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


def assert_begun_with_the_checkpoint(resumed: Learned, stopped: Path) -> None:
    saved = load_file(stopped / "checkpoints" / f"checkpoint-{STOPPED}" / "model.safetensors")
    assert resumed.began == fingerprint(saved)
