"""Callbacks: names as the conventions want them, seals only on sound weights."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from models.checkpoints import is_intact
from models.errors import DivergedError
from models.trainer_callbacks import HeldOutCallback, LogCallback, SealCallback


def test_log_forwards_numbers_under_the_stage() -> None:
    seen: list[tuple[Mapping[str, float], int]] = []
    callback = LogCallback("reward", lambda metrics, step: seen.append((metrics, step)))
    state = SimpleNamespace(global_step=7)
    callback.on_log(
        None,
        state,
        None,
        logs={
            "loss": 2,
            "grad_norm": 0.5,
            "eval_loss": 3.0,
            "mean_reward": 0.25,
            "accuracy": 0.75,
            "epoch": 0.5,
            "total_flos": 1e9,
            "train_runtime": 12.0,
            "note": "text",
        },
    )
    assert seen == [
        (
            {
                "reward/loss": 2.0,
                "reward/grad_norm": 0.5,
                "reward/heldout_loss": 3.0,
                "reward/train_score_mean": 0.25,
                "reward/train_accuracy": 0.75,
            },
            7,
        )
    ]
    callback.on_log(None, state, None, logs={"epoch": 1.0})
    assert len(seen) == 1


def _write_checkpoint(parent: Path, step: int) -> Path:
    folder = parent / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("w")
    return folder


def test_seal_seals_the_saved_checkpoint_and_drops_old_ones(tmp_path: Path) -> None:
    callback = SealCallback(tmp_path, keep=2)
    for step in (1, 2, 3):
        _write_checkpoint(tmp_path, step)
        callback.on_save(None, SimpleNamespace(global_step=step), None, torch.nn.Linear(1, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    assert all(is_intact(path) for path in tmp_path.iterdir())


def test_seal_refuses_weights_that_are_not_finite(tmp_path: Path) -> None:
    folder = _write_checkpoint(tmp_path, 4)
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.bias, float("nan"))
    with pytest.raises(DivergedError, match="no longer finite at step 4"):
        SealCallback(tmp_path).on_save(None, SimpleNamespace(global_step=4), None, model)
    assert not is_intact(folder)


def test_held_out_is_measured_at_every_checkpoint_but_the_last() -> None:
    seen: list[tuple[Mapping[str, float], int]] = []
    callback = HeldOutCallback(lambda model: {"x": 1.0}, lambda m, s: seen.append((m, s)))
    callback.on_save(None, SimpleNamespace(global_step=2, max_steps=4), None)
    callback.on_save(None, SimpleNamespace(global_step=4, max_steps=4), None)
    assert seen == [({"x": 1.0}, 2)]
