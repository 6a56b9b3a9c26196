"""Callbacks: names as the conventions want them, seals only on sound weights."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.checkpoints import is_intact
from models.distributed.interruption import Interruption
from models.errors import DivergedError
from models.training.callbacks import (
    HeldOutCallback,
    LogCallback,
    SealCallback,
    StopCallback,
)

Logged = list[tuple[Mapping[str, float], int]]


@pytest.fixture
def logged() -> Logged:
    return []


@pytest.fixture
def log(logged: Logged) -> Callable[[Mapping[str, float], int], None]:
    return lambda metrics, step: logged.append((metrics, step))


def _state(step: int, max_steps: int) -> Any:
    return SimpleNamespace(global_step=step, max_steps=max_steps)


def test_log_forwards_numbers_under_the_stage(log: Any, logged: Logged) -> None:
    callback = LogCallback("reward", log)
    state = _state(7, max_steps=100)
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
            "num_tokens": 64.0,
            "total_flos": 1e9,
            "train_runtime": 12.0,
            "note": "text",
        },
    )
    assert logged == [
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
    assert len(logged) == 1


def test_log_forwards_means_of_spans_and_of_what_is_left_at_the_end(
    log: Any, logged: Logged
) -> None:
    callback = LogCallback("sft", log)
    for step in range(1, 306):  # 305 // 100: spans of 3 steps, and 2 steps are left over
        numbers = {"loss": float(step), "learning_rate": 1.0 / step}
        callback.on_log(None, _state(step, max_steps=305), None, logs=numbers)
    assert [step for _, step in logged] == [*range(3, 304, 3), 305]
    assert logged[0] == ({"sft/loss": (1 + 2 + 3) / 3, "sft/learning_rate": 1 / 3}, 3)
    assert logged[1] == ({"sft/loss": (4 + 5 + 6) / 3, "sft/learning_rate": 1 / 6}, 6)
    assert logged[-1] == ({"sft/loss": (304 + 305) / 2, "sft/learning_rate": 1 / 305}, 305)


def test_log_keeps_the_span_under_way_with_the_checkpoint(
    log: Any, logged: Logged, tmp_path: Path
) -> None:
    args = SimpleNamespace(output_dir=str(tmp_path))
    checkpoint = tmp_path / "checkpoint-5"
    checkpoint.mkdir()
    # Spans of 4 steps; the second one is cut after its first step, at the checkpoint.
    first, second = LogCallback("sft", log), LogCallback("sft", log)
    for step in range(1, 6):
        first.on_log(None, _state(step, max_steps=400), None, logs={"loss": float(step)})
    first.on_save(args, _state(5, max_steps=400), None)
    assert json.loads((checkpoint / "span.json").read_text(encoding="utf-8")) == {"loss": [5.0]}
    second.resume(checkpoint)
    for step in range(6, 9):
        second.on_log(None, _state(step, max_steps=400), None, logs={"loss": float(step)})
    # (1 + 2 + 3 + 4) / 4 and (5 + 6 + 7 + 8) / 4
    assert logged == [({"sft/loss": 2.5}, 4), ({"sft/loss": 6.5}, 8)]


@pytest.mark.parametrize("requested", [False, True])
def test_stop_saves_and_ends_after_a_step_in_which_a_signal_came(requested: bool) -> None:
    interruption: Any = SimpleNamespace(requested=requested)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    StopCallback(interruption).on_step_end(None, _state(3, max_steps=9), control)
    assert (control.should_save, control.should_training_stop) == (requested, requested)


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


def _held_out(log: Any, checkpoints: Path) -> Callable[..., None]:
    """A function that tells the callback of a save or a resume, at steps that save every second."""
    callback = HeldOutCallback(lambda model: {"x": 1.0}, log, Interruption())
    args = SimpleNamespace(output_dir=str(checkpoints), save_steps=2)

    def tell(event: str, step: int, *, stopping: bool = False) -> None:
        (checkpoints / f"checkpoint-{step}").mkdir(exist_ok=True)
        control = SimpleNamespace(should_training_stop=stopping)
        getattr(callback, event)(args, _state(step, max_steps=6), control)

    return tell


def test_held_out_is_measured_at_every_due_checkpoint_but_the_last(
    log: Any, logged: Logged, tmp_path: Path
) -> None:
    tell = _held_out(log, tmp_path)
    tell("on_train_begin", 0)
    tell("on_save", 2)
    tell("on_save", 3)  # saved on the way out of a run that diverged: not due
    tell("on_save", 4)
    tell("on_save", 6, stopping=True)
    assert logged == [({"x": 1.0}, 2), ({"x": 1.0}, 4)]


def test_held_out_is_caught_up_once_by_whoever_resumes_where_a_run_was_stopped(
    log: Any, logged: Logged, tmp_path: Path
) -> None:
    tell = _held_out(log, tmp_path)
    tell("on_save", 2, stopping=True)
    assert logged == []
    tell("on_train_begin", 2)
    assert logged == [({"x": 1.0}, 2)]
    tell("on_train_begin", 2)  # resumed there again
    tell("on_train_begin", 3)
    assert len(logged) == 1
