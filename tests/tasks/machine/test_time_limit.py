"""A time limit ends a training like a signal does, and Prefect calls it a timeout."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from models.checkpoints import is_intact
from models.families.config import ArchitectureConfig
from models.language.config import TokenizerConfig
from models.language.tokenizer import train_tokenizer
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.pretraining import pretrain
from tasks.machine.time_limit import time_limit

SECOND = 1 / 3600


@pytest.fixture(autouse=True)
def alarm_is_given_back() -> Iterator[None]:
    """The handler and timer that were there before, as of pytest-timeout."""
    before = signal.getsignal(signal.SIGALRM)
    ticking = signal.getitimer(signal.ITIMER_REAL)[0] > 0
    yield
    assert signal.getsignal(signal.SIGALRM) == before
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == ticking


def _wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def test_time_limit_ends_the_block_with_a_message() -> None:
    with (
        pytest.raises(TimeoutError, match=r"limit of 2\.\d+e-05 hours is over.*new run .* resumes"),
        time_limit(0.1 * SECOND),
    ):
        _wait(10)


def test_time_limit_passes_by_those_who_catch_exceptions() -> None:
    def work() -> None:
        with time_limit(0.1 * SECOND), contextlib.suppress(Exception):
            _wait(10)

    with pytest.raises(TimeoutError):
        work()


@pytest.mark.parametrize("hours", [0, 1.0])
def test_a_block_that_is_in_time_is_left_alone(hours: float) -> None:
    with time_limit(hours):
        _wait(0.01)


def test_errors_of_the_block_stay_what_they_are() -> None:
    for error in (ValueError("mine"), TimeoutError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, time_limit(1.0):
            raise error
        assert caught.value is error


def test_an_outer_limit_goes_on_after_an_inner_one() -> None:
    def work() -> None:
        with time_limit(0.2 * SECOND):
            with time_limit(1.0):
                _wait(0.4)  # past the outer limit, which strikes at the inner one's end
            _wait(10)

    with pytest.raises(TimeoutError, match="limit of 5"):
        work()


def test_outside_the_main_thread_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        with time_limit(1.0):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "not kept outside the main thread" in caplog.text


@pytest.mark.usefixtures("prefect_server")
def test_prefect_says_that_the_run_timed_out() -> None:
    @flow
    def slow() -> None:
        with time_limit(0.1 * SECOND):
            _wait(10)

    state: State[Any] = slow(return_state=True)
    assert (state.name, state.type.value) == ("TimedOut", "FAILED")
    assert "time limit" in str(state.message)


def test_training_that_took_too_long_resumes_to_the_same_bits(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "the cat slept all day on the mat, a dog ran home"}\n' * 40)
    tokenizer = tmp_path / "tokenizer"
    train_tokenizer(
        corpus=corpus, config=TokenizerConfig(vocab_size=300), context=64, out=tokenizer
    )

    def run(name: str, hours: float = 0.0) -> int:
        steps = []

        def log(metrics: Mapping[str, float], step: int) -> None:
            steps.append(step)
            if hours and step == 3:
                signal.setitimer(signal.ITIMER_REAL, 1e-3)  # the time is up in the next step

        with time_limit(hours):
            pretrain(
                tokenizer=tokenizer,
                corpus=corpus,
                heldout=corpus,
                architecture=ArchitectureConfig(layers=1, width=32, heads=2, context=64),
                config=PretrainConfig(steps=12, block_tokens=16, batch_size=3, checkpoint_steps=10),
                run=TrainingRun(
                    out=tmp_path / name / "out",
                    checkpoints=tmp_path / name / "checkpoints",
                    seed=3,
                    device="cpu",
                    log=log,
                ),
            )
        return steps[0]

    assert run("whole") == 1
    with pytest.raises(TimeoutError):
        run("limited", hours=1.0)
    (saved,) = (tmp_path / "limited" / "checkpoints").glob("checkpoint-*")
    assert is_intact(saved)
    stopped_at = int(saved.name.rpartition("-")[2])
    assert 3 <= stopped_at < 10
    assert run("limited") == stopped_at + 1
    whole, limited = (
        (tmp_path / name / "out" / "model.safetensors").read_bytes()
        for name in ("whole", "limited")
    )
    assert whole == limited
