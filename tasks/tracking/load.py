"""Processor, memory, disk, network and GPU while a stage trains, under MLflow's own names.

MLflow's collectors measure; its monitor is not used, for it ends for good at the first request
that fails. A thread samples every ten seconds into the stage's metric buffer, which bears outages
and sends the samples along with the curves. As in MLflow, their step counts samples.
"""

import logging
import threading
import time
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from tasks.tracking.metrics import MetricBuffer, Point

logger = logging.getLogger(__name__)

SAMPLING_SECONDS = 10.0
"""Time between two samples, as in MLflow."""

STOP_SECONDS = 5.0
"""How long the end of a stage may wait for a sample under way."""

PREFIX = "system/"

COUNTING_SAMPLES = f"{PREFIX}cpu_utilization_percentage"
"""A metric that every sample has, by which a run that goes on finds its next step."""


class SystemMetrics:
    """Samples of the machine's load, from `start()` to `stop()`."""

    def __init__(self, buffer: MetricBuffer, *, first_step: int = 0) -> None:
        """Say where samples go; nothing runs yet.

        Args:
            buffer: Takes the samples.
            first_step: Number of the first one; a run that goes on counts on.
        """
        self._buffer = buffer
        self._step = first_step
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._monitors: list[Any] = []

    def start(self) -> None:
        """Begin to sample; a collector that this machine has no use for is left out."""
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
        now = int(time.time() * 1000)
        self._buffer.hold(
            [
                Point(name=f"{PREFIX}{name}", value=float(value), step=self._step, time_ms=now)
                for monitor in self._monitors
                for name, value in monitor.aggregate_metrics().items()
            ]
        )
        self._step += 1
