"""Step metrics and the machine's load on their way to MLflow: in batches, resumed after an outage.

Deliveries run in a thread, so that training never waits for a server, however slow. One is tried
only where the server answers a short question first, because MLflow's own retries take minutes.
Nothing here is the only copy: a stage writes every metric into its history file as well.

Load is processor, memory, disk, network and GPU while a stage trains, under MLflow's own names and
measured by its collectors. MLflow's own monitor is not used, for it ends for good at the first
request that fails. As in MLflow, the step of a sample counts samples.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.tracking.outages import describe

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

SAMPLING_SECONDS = 10.0
"""Time between two samples, as in MLflow."""

STOP_SECONDS = 5.0
"""How long the end of a stage may wait for a sample under way."""

PREFIX = "system/"

COUNTING_SAMPLES = f"{PREFIX}cpu_utilization_percentage"
"""A metric that every sample has, by which a resumed run finds its next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One number of a curve; `time_ms` is when it was measured, in milliseconds since 1970."""

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
        self.hold(_points(metrics, step))
        sending = self._sender is not None and self._sender.is_alive()
        if time.monotonic() - self._last_try >= self._pause and not sending:
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
                describe(error), len(self._waiting),
            )  # fmt: skip
        self._warned = self.interrupted = True
        self._pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * self._pause))
        del self._waiting[:-MOST_WAITING]


class SystemMetrics:
    """Samples of the machine's load, from `start()` to `stop()`."""

    def __init__(self, buffer: MetricBuffer, *, first_step: int = 0) -> None:
        """Number the samples from `first_step`, where a resumed run continues."""
        self._buffer = buffer
        self._step = first_step
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._monitors: list[Any] = []

    def start(self) -> None:
        """Begin to sample; a collector that this machine has no use for is left out."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        for monitor in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor):
            try:
                self._monitors.append(monitor())
            except Exception as error:  # no GPU, no library that reads it, no counters
                logger.debug("no samples of %s: %s", monitor.__name__, error)
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End sampling, with a last sample if there was none; safe to call at any time."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _run(self) -> None:
        try:
            self._collect()  # utilisation is measured from one sample to the next
            ended, first_step = False, self._step
            while not ended:
                for monitor in self._monitors:
                    monitor.clear_metrics()
                ended = self._stopped.wait(SAMPLING_SECONDS)
                if not ended or self._step == first_step:
                    self._sample()
        except Exception as error:  # whatever the system does not tell must leave a stage alone
            logger.warning("the machine's load is not recorded any more: %s", error)

    def _collect(self) -> None:
        for monitor in self._monitors:
            monitor.collect_metrics()

    def _sample(self) -> None:
        self._collect()
        load: dict[str, float] = {}
        for monitor in self._monitors:
            load |= monitor.aggregate_metrics()
        named = {f"{PREFIX}{name}": float(value) for name, value in load.items()}
        self._buffer.hold(_points(named, self._step))
        self._step += 1


def without_silent(
    curves: Mapping[str, Sequence[tuple[int, float]]],
) -> dict[str, list[tuple[int, float]]]:
    """Leave out alarms where they were not raised: one that never was draws no curve."""
    kept = {
        name: [(step, value) for step, value in points if not _is_silent(name, value)]
        for name, points in curves.items()
    }
    return {name: points for name, points in kept.items() if points}


def _is_silent(name: str, value: float) -> bool:
    return value == 0.0 and "alarm" in name.split("/")


def _points(metrics: Mapping[str, float], step: int) -> list[Point]:
    now = int(time.time() * 1000)
    return [
        Point(name=key, value=value, step=step, time_ms=now)
        for key, value in metrics.items()
        if not _is_silent(key, value)
    ]
