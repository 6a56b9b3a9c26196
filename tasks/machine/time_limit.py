"""A limit on how long a run may take: it ends like one that was cancelled, and can be resumed.

The alarm is a signal and raises at a safe point, so that a checkpoint is saved; what it raises is
no `Exception`, so training passes it on, and becomes a TimeoutError at the edge of the block, by
which Prefect marks the run as timed out. Prefect's own timeouts raise asyncio's
CancelledError instead, which libraries on the way take for their own.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator

logger = logging.getLogger(__name__)

SECONDS_AN_HOUR = 3600.0


class TimeIsUp(BaseException):
    """Raised by the alarm inside the block."""

    signal = signal.SIGALRM


@contextlib.contextmanager
def time_limit(hours: float) -> Iterator[None]:
    """End the block after so many hours; 0 is no limit.

    Only the main thread can be limited, for signals arrive nowhere else.

    Raises:
        TimeoutError: The time is up; checkpoints were saved.
    """
    if not hours:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        logger.warning("a time limit of %g hours is not kept outside the main thread", hours)
        yield
        return

    def strike(*_: object) -> None:
        raise TimeIsUp

    started = time.monotonic()
    handler_before = signal.signal(signal.SIGALRM, strike)
    left_before, _ = signal.setitimer(signal.ITIMER_REAL, hours * SECONDS_AN_HOUR)
    try:
        yield
    except TimeIsUp:
        raise TimeoutError(
            f"the time limit of {hours:g} hours is over; what was learned is saved in a "
            "checkpoint: a new run with the same parameters resumes from there"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler_before)
        if left_before:  # an outer limit continues, and raises at once if its time has passed
            left = left_before - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))
