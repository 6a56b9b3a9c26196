"""Signals are not lost where Python loses what their handlers raise.

A handler runs between any two instructions of the main thread. In a weak reference's callback, a
`__del__` or a function that a library in C calls, Python prints what it raises and goes on, so that
a cancelled run would be trained to its end. Such a signal is sent once more.
"""

import os
import signal
import sys
import threading
from typing import Any

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
