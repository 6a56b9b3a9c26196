"""A PPO stage that is stopped saves where it is and resumes from there, to the bit."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.ppo import trainer as trainer_module

Train = Callable[..., Any]
EVERYTHING = {
    "ema_decay": 0.9,
    "kl_target": 1.0,
    "kl_horizon": 50,
    "ptx_coef": 0.5,
    "ptx_rows": 2,
    "entropy_coef": 0.01,
    "learn_from_cut": False,
    "checkpoint_iterations": 3,
}


@pytest.fixture(autouse=True)
def leaves_by_exception() -> Iterator[None]:
    """SIGTERM as the command line handles it."""

    def leave(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    yield
    signal.signal(signal.SIGTERM, before)


def _timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "/time/" not in name}


def _files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tmp_path_factory.mktemp("undisturbed"), config=EVERYTHING)


def _signal_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Send SIGTERM in the middle of the given call of a function of the trainer."""
    original, calls = getattr(trainer_module, name), []

    def disturbed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        result = original(*args, **kwargs)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(trainer_module, name, disturbed)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sample", 1),  # in the first rollout: nothing has moved yet
        ("forward_networks", 2),  # the second one is sampled and has no rewards yet
        ("critic_step", 1),  # the critic has moved, the actor not yet
        ("critic_step", 7),
        ("actor_step", 2),
        ("actor_step", 8),  # an iteration's last minibatch
        ("next_kl_coef", 2),  # all steps are taken, the iteration is not yet counted
        ("sample", 4),  # right after a checkpoint
        ("next_kl_coef", 5),  # the very end
    ],
)
def test_stopped_run_ends_like_an_undisturbed_one(
    train: Train,
    undisturbed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
) -> None:
    with monkeypatch.context() as patched:
        _signal_at(patched, name, call)
        logged: dict[int, dict[str, float]] = {}
        with pytest.raises(SystemExit):
            train(tmp_path, config=EVERYTHING, logged=logged)
    assert (tmp_path / "checkpoints" / "interrupted" / "SEAL.json").is_file()
    resumed = train(tmp_path, config=EVERYTHING)
    assert _files(resumed.out) == _files(undisturbed.out)
    assert _timeless(resumed.metrics) == _timeless(undisturbed.metrics)
    # Between them, the two runs log every iteration, none of them twice.
    assert sorted([*logged, *resumed.logged]) == [1, 2, 3, 4, 5]
    for step, metrics in (logged | resumed.logged).items():
        assert _timeless(metrics) == _timeless(undisturbed.logged[step])


def test_run_stopped_twice_and_torn_resumes_from_the_checkpoint_before(
    train: Train,
    undisturbed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for call in (14, 1):  # in iteration 4, after the checkpoint of iteration 3; then again
        with monkeypatch.context() as patched:
            _signal_at(patched, "actor_step", call)
            with pytest.raises(SystemExit):
                train(tmp_path, config=EVERYTHING)
    state = tmp_path / "checkpoints" / "interrupted" / "state.pt"
    state.write_bytes(state.read_bytes()[:-10])
    resumed = train(tmp_path, config=EVERYTHING)
    assert sorted(resumed.logged) == [4, 5]
    assert _files(resumed.out) == _files(undisturbed.out)
