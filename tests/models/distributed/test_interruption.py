"""Signals wait inside `held` and strike at its end, by the handler that was there before."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from models.distributed.interruption import Interruption


class Stop(BaseException):
    """What the process's own handler raises."""


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


def _send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_strikes_at_once_where_nothing_is_held() -> None:
    reached = []

    def work() -> None:
        with Interruption():
            _send()
            reached.append("after")

    with pytest.raises(Stop):
        work()
    assert reached == []


def test_a_signal_waits_until_the_block_ends() -> None:
    reached = []

    def work() -> None:
        with Interruption() as interruption:
            with interruption.held():
                with interruption.held():
                    _send()
                    assert interruption.requested
                reached.append("inner")
            reached.append("outer")

    with pytest.raises(Stop):
        work()
    assert reached == ["inner"]


def test_an_error_in_the_block_goes_first() -> None:
    def work() -> None:
        with Interruption() as interruption, interruption.held():
            _send()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()


def test_ctrl_c_waits_too() -> None:
    # A shell that starts the tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption, interruption.held():
        _send(signal.SIGINT)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_without_a_handler_the_process_leaves_as_it_would_have() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as left, Interruption() as interruption, interruption.held():
        _send()
    assert left.value.code == 128 + signal.SIGTERM


def test_outside_the_main_thread_it_does_nothing() -> None:
    seen = []

    def work() -> None:
        with Interruption() as interruption, interruption.held():
            seen.append(interruption.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


# --- alarms, and work that may be given up -------------------------------------------------------


@pytest.fixture
def alarm_handler() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm_handler")
def test_an_alarm_waits_too() -> None:
    reached = []

    def work() -> None:
        with Interruption() as interruption, interruption.held():
            _send(signal.SIGALRM)
            reached.append("after")

    with pytest.raises(TimeoutError):
        work()
    assert reached == ["after"]


@pytest.mark.usefixtures("alarm_handler")
def test_sigterm_outranks_a_time_limit() -> None:
    def work(first: int, second: int) -> None:
        with Interruption() as interruption, interruption.held():
            _send(first)
            _send(second)

    for numbers in ((signal.SIGTERM, signal.SIGALRM), (signal.SIGALRM, signal.SIGTERM)):
        with pytest.raises(Stop):
            work(*numbers)


def test_an_alarm_that_nobody_handles_is_left_alone() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_strikes_at_once_in_work_that_may_be_given_up() -> None:
    reached = []

    def work() -> None:
        with Interruption() as interruption, interruption.held(), interruption.released():
            reached.append("released")
            _send()
            reached.append("after")

    with pytest.raises(Stop):
        work()
    assert reached == ["released"]


def test_a_signal_that_waits_strikes_before_work_that_may_be_given_up() -> None:
    reached = []

    def work() -> None:
        with Interruption() as interruption, interruption.held():
            _send()
            reached.append("held")
            with interruption.released():
                reached.append("released")

    with pytest.raises(Stop):
        work()
    assert reached == ["held"]


def test_signals_wait_again_after_work_that_may_be_given_up() -> None:
    reached = []

    def work() -> None:
        with Interruption() as interruption, interruption.held():
            with interruption.released():
                pass
            _send()
            reached.append("after")

    with pytest.raises(Stop):
        work()
    assert reached == ["after"]
