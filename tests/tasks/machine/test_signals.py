"""A signal that comes while Python cleans up strikes a moment later."""

import gc
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal

from tasks.machine.signals import keep_signals, signals_held
from tasks.machine.time_limit import TimeIsUp


class Thing:
    """Something that is cleaned up."""


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    before = sys.unraisablehook
    keep_signals()
    yield
    sys.unraisablehook = before


@pytest.fixture
def handle() -> Iterator[Callable[[int, BaseException], None]]:
    """Set a handler that raises."""
    before: dict[int, Any] = {}

    def handle(number: int, error: BaseException) -> None:
        def strike(*_: object) -> None:
            raise error

        before[number] = signal.signal(number, strike)

    yield handle
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGTERM, SystemExit(128 + signal.SIGTERM)),
        (signal.SIGTERM, TerminationSignal(signal.SIGTERM)),
        (signal.SIGINT, KeyboardInterrupt()),
        (signal.SIGALRM, TimeIsUp()),
    ],
)
def test_a_signal_in_a_callback_strikes_after_it(
    number: int, error: BaseException, handle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    handle(number, error)
    went_on = False

    def train() -> None:
        nonlocal went_on
        thing = Thing()
        watched = weakref.ref(thing, lambda _: signal.raise_signal(number))
        del thing
        gc.collect()
        went_on = True
        assert watched() is None
        for _ in range(200):  # a signal that comes just before a sleep does not cut it short
            time.sleep(0.1)

    begin = time.monotonic()
    with pytest.raises(type(error)):
        train()
    assert went_on, "Python lost it first"
    assert time.monotonic() - begin < 10
    assert "ignored" not in capsys.readouterr().err


def test_what_else_cannot_be_raised_is_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    keep_signals()
    keep_signals()

    def broken(_: object) -> None:
        raise ValueError("a mistake")

    thing = Thing()
    watched = weakref.ref(thing, broken)
    del thing
    gc.collect()
    assert watched() is None
    assert [str(one.exc_value) for one in told] == ["a mistake"]


def test_a_held_signal_strikes_when_the_block_ends(handle: Any) -> None:
    handle(signal.SIGTERM, SystemExit(143))
    went_on = False

    def write() -> None:
        nonlocal went_on
        with signals_held():
            signal.raise_signal(signal.SIGTERM)
            went_on = True

    with pytest.raises(SystemExit):
        write()
    assert went_on
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)  # handled as before


def test_an_error_within_goes_with_the_signal(handle: Any) -> None:
    handle(signal.SIGTERM, SystemExit(143))

    def write() -> None:
        with signals_held():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("the disk is full")

    with pytest.raises(SystemExit) as caught:
        write()
    assert isinstance(caught.value.__context__, ValueError)
