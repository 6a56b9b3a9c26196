"""Signals wait for a local database, and for nothing else."""

import signal
import time
from pathlib import Path

import pytest

from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.database import Undisturbed


class Client:
    """Says whether a signal struck it."""

    uri = "sqlite:///here"

    def __init__(self) -> None:
        self.done: list[str] = []

    def log_batch(self) -> None:
        """Be told to stop in the middle."""
        signal.raise_signal(signal.SIGINT)
        self.done.append("log_batch")

    def log_artifacts(self) -> None:
        """Be told to stop while files are copied."""
        signal.raise_signal(signal.SIGINT)
        self.done.append("log_artifacts")


def test_calls_end_before_a_signal_strikes_but_those_that_copy_files() -> None:
    inner = Client()
    client = Undisturbed(inner)
    for call in (client.log_batch, client.log_artifacts):
        with pytest.raises(KeyboardInterrupt):
            call()
    assert inner.done == ["log_batch"]
    assert client.uri == "sqlite:///here"


def test_a_signal_at_any_moment_leaves_the_local_database_open(home: Path) -> None:
    """A timer strikes within many calls; each next one finds no lock, though the error lives."""
    tracker = Tracker(load_settings())
    run_id = tracker.start_run("p", parameters={}, tags={})

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    def log_until_struck(number: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.002 * (number + 1))
        while True:
            tracker.log(run_id, metrics={"step": float(number)})
            tracker.start_run("child", parameters={}, tags={})

    struck = []
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for number in range(20):
            with pytest.raises(KeyboardInterrupt) as caught:
                log_until_struck(number)
            struck.append(caught.value)
            begin = time.monotonic()
            tracker.log(run_id, metrics={"after": float(number)})
            assert time.monotonic() - begin < 15, "SQLite waits 20 s for a lock"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (home / "mlflow.db").exists()
