"""Step metrics on their way to MLflow: batches now and then, and patience in an outage.

A delivery is tried only where the server answers a short question first, so that a dead or hanging
server costs training milliseconds or two seconds a try and not MLflow's own retries. Nothing here
is the only copy: a stage writes every metric into its history file as well.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["MetricBuffer", "Point"]

logger = logging.getLogger(__name__)

BATCH = 1000
"""Metrics of one request, MLflow's own limit."""

DELIVERY_SECONDS = 2.0
"""Least time between two deliveries."""

FIRST_PAUSE_SECONDS = 4.0
"""Time to the second try in an outage; it doubles with each one."""

LONGEST_PAUSE_SECONDS = 30.0
"""Most time between two tries, hence how long after an outage deliveries resume at the latest."""

MOST_WAITING = 200_000
"""Metrics kept in memory; older ones are left to the history file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One number of a curve.

    Attributes:
        name: Of the metric.
        value: At the step.
        step: Where on the curve.
        time_ms: When it was measured, in milliseconds since 1970.
    """

    name: str
    value: float
    step: int
    time_ms: int


class MetricBuffer:
    """Metrics on their way to a run; an outage delays them but never stops training."""

    def __init__(
        self,
        deliver: Callable[[Sequence[Point]], None],
        *,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Deliver by calling `deliver` with a batch, when `ready` says that it is worth a try."""
        self._deliver = deliver
        self._ready = ready
        self._waiting: list[Point] = []
        self._pause = DELIVERY_SECONDS
        self._last_try = time.monotonic()
        self._warned = False
        self.interrupted = False
        """Whether a delivery ever failed, after which a look for gaps is worth its time."""

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Take metrics of a step, and deliver what waits if it is time."""
        now = int(time.time() * 1000)
        self._waiting += [
            Point(name=name, value=value, step=step, time_ms=now) for name, value in metrics.items()
        ]
        if time.monotonic() - self._last_try >= self._pause:
            self.flush()

    def flush(self) -> bool:
        """Deliver what waits; False if it could not be delivered and still waits."""
        try:
            if self._waiting and not self._ready():
                raise ConnectionError("the server does not answer")
            while self._waiting:
                self._deliver(self._waiting[:BATCH])
                del self._waiting[:BATCH]
        except Exception as error:  # any failure of a remote service must leave training alone
            self._postpone(error)
            return False
        finally:
            self._last_try = time.monotonic()
        if self._warned:
            logger.info("MLflow answers again; the metrics that waited are delivered")
        self._warned = False
        self._pause = DELIVERY_SECONDS
        return True

    def _postpone(self, error: Exception) -> None:
        if not self._warned:
            logger.warning(
                "MLflow cannot be reached (%s); %d metrics wait and are delivered later",
                error,
                len(self._waiting),
            )
        self._warned = self.interrupted = True
        self._pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * self._pause))
        del self._waiting[:-MOST_WAITING]
