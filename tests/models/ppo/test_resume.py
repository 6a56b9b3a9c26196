"""A PPO stage that was interrupted ends with the bytes and numbers of one that was not."""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoints import latest, seal
from models.ppo import session as session_module

Train = Callable[..., Any]


def _timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "/time/" not in name}


def _published(outcome: Any) -> dict[str, bytes]:
    paths = sorted(path for path in outcome.out.rglob("*") if path.is_file())
    return {path.relative_to(outcome.out).as_posix(): path.read_bytes() for path in paths}


def _assert_same(resumed: Any, whole: Any, *, since: int) -> None:
    """Every published byte and every number from iteration `since` on."""
    assert _published(resumed) == _published(whole)
    assert _timeless(resumed.metrics) == _timeless(whole.metrics)
    assert sorted(resumed.logged) == list(range(since, 6))
    for step, metrics in resumed.logged.items():
        assert _timeless(metrics) == _timeless(whole.logged[step])


@pytest.mark.parametrize(
    ("interrupt_at", "since"),
    [
        (1, 1),  # before any checkpoint: from the start
        (3, 3),  # in the iteration after checkpoint 2
        (4, 3),  # two iterations after it, in the one that ends with checkpoint 4
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(
    train: Train, whole: Any, tmp_path: Path, interrupt_at: int, since: int
) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, interrupt_at=interrupt_at)
    _assert_same(train(tmp_path), whole, since=since)


def test_run_killed_before_publishing_only_publishes(
    train: Train, whole: Any, tmp_path: Path
) -> None:
    first = train(tmp_path)
    shutil.rmtree(first.out)
    again = train(tmp_path)
    assert again.metrics == first.metrics
    _assert_same(again, whole, since=6)


def test_torn_checkpoint_is_skipped_and_training_ends_the_same(
    train: Train, whole: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, interrupt_at=5)
    folder = tmp_path / "checkpoints"
    assert latest(folder) == folder / "checkpoint-4"
    state = folder / "checkpoint-4" / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        resumed = train(tmp_path)
    assert "checkpoint-4 is torn" in caplog.text
    _assert_same(resumed, whole, since=3)
    assert latest(folder) == folder / "checkpoint-5"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-5",
    ]


def test_run_killed_while_it_writes_a_checkpoint_resumes_from_the_one_before(
    train: Train, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed_at_the_second(folder: Path) -> None:
        if folder.name == "checkpoint-4":
            raise RuntimeError("killed")
        seal(folder)

    with monkeypatch.context() as patched:
        patched.setattr(session_module, "seal", killed_at_the_second)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-4").is_dir()
    _assert_same(train(tmp_path), whole, since=3)


def test_bfloat16_run_resumes_to_the_bit_and_publishes_masters(
    train: Train, tmp_path: Path
) -> None:
    config = {"precision": "bfloat16", "ema_decay": 0.5}
    whole = train(tmp_path / "whole", config=config)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "torn", config=config, interrupt_at=3)
    _assert_same(train(tmp_path / "torn", config=config), whole, since=3)
    assert whole.logged[1]["ppo/objective/kl_to_reference"] == 0.0  # the reference is rounded alike
    for step in range(2, 6):  # after the critic's warm-up
        assert whole.logged[step]["ppo/policy/first_ratio_error"] == 0.0
    for name in ("model", "critic", "ema"):
        state = load_file(whole.out / name / "model.safetensors")
        assert {weight.dtype for weight in state.values()} == {torch.float32}
        assert any(not torch.equal(weight, weight.bfloat16()) for weight in state.values())


def test_how_often_checkpoints_are_written_changes_no_weight(
    train: Train, whole: Any, tmp_path: Path
) -> None:
    often = _published(train(tmp_path, config={"checkpoint_iterations": 1}))
    wanted = _published(whole)
    del often["samples.jsonl"], wanted["samples.jsonl"]
    assert often == wanted
