"""Signals are not lost, and strike nothing that must not be cut in two.

A handler runs between any two instructions of the main thread. In a weak reference's callback, a
`__del__` or a function that a library in C calls, Python prints what it raises and goes on, so that
a cancelled run would be trained to its end. Such a signal is sent once more.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

HELD = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)

AGAIN_SECONDS = 0.05
"""Until it is sent again: by then the callback is through."""


def keep_signals() -> None:
    """Send a signal again whose handler's exception is lost, from now on in this process."""
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def leave_when_told() -> None:
    """Leave by an exception on SIGTERM, as on Ctrl-C: what was started is stopped, not killed."""
    keep_signals()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put signals off until the block ends, which must be short; other threads than the main one
    get none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        for number in HELD:
            if (handler := signal.getsignal(number)) is not None:  # else it is none of Python's
                before[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
        for last in came[-1:]:
            signal.raise_signal(last)


class _Hook:
    """Python's hook for what cannot be raised, but for what handlers of signals raise."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, lost: Any) -> None:
        number = _number(lost.exc_value)
        if not number or threading.current_thread() is not threading.main_thread():
            self._before(lost)
            return
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


def _number(error: BaseException | None) -> int:
    """The signal whose handler raised this; 0 if none did."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return max(0, error.code - 128)
    if isinstance(error, Exception):
        return 0
    return int(getattr(error, "signal", 0))  # Prefect's TerminationSignal, our TimeIsUp
