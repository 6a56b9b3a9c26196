"""Step metrics on their way to MLflow: batches now and then, and patience in an outage.

Deliveries run in a thread, so that training never waits for a server, however slow. One is tried
only where the server answers a short question first, because MLflow's own retries take minutes.
Nothing here is the only copy: a stage writes every metric into its history file as well.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

BATCH = 1000
"""Metrics of one request, MLflow's own limit."""

DELIVERY_SECONDS = 5.0
"""Least time between two deliveries."""

FIRST_PAUSE_SECONDS = 5.0
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
        self._sender: threading.Thread | None = None
        self._pause = DELIVERY_SECONDS
        self._last_try = time.monotonic()
        self._warned = False
        self.interrupted = False
        """Whether a delivery ever failed, after which a look for gaps is worth its time."""

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Take metrics of a step, and have what waits delivered if it is time."""
        now = int(time.time() * 1000)
        self.hold(
            Point(name=name, value=value, step=step, time_ms=now) for name, value in metrics.items()
        )
        if time.monotonic() - self._last_try >= self._pause and not self._is_sending():
            # With the caller's context, in which the run that it belongs to is found.
            context = contextvars.copy_context()
            self._sender = threading.Thread(target=context.run, args=(self._send,), daemon=True)
            self._sender.start()

    def hold(self, points: Iterable[Point]) -> None:
        """Take points that go out with the next delivery; safe to call from another thread."""
        self._waiting.extend(list(points))

    def flush(self) -> bool:
        """Deliver what waits, now; False if it could not be delivered and still waits."""
        self.wait()
        return self._send()

    def wait(self) -> None:
        """Wait until no delivery is under way."""
        if self._sender is not None:
            self._sender.join()

    def _is_sending(self) -> bool:
        return self._sender is not None and self._sender.is_alive()

    def _send(self) -> bool:
        """Deliver what waits; only one thread at a time comes here."""
        try:
            if self._waiting and not self._ready():
                raise ConnectionError("the server does not answer")
            while self._waiting:
                batch = self._waiting[:BATCH]
                self._deliver(batch)
                del self._waiting[: len(batch)]  # what was added meanwhile stands behind
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
