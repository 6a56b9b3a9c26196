"""The MLflow side of one stage: its run from the first second to its end, whatever MLflow does.

A run that could not be opened at the start is opened when the server is back; what cannot be
recorded at the end is noted for `quartet sync` (`tasks/tracking/outages.py`).
"""

import contextlib
import functools
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from models.errors import QuartetError, WaitingError
from tasks.machine.liveness import is_gone
from tasks.results.store import Manifest, Store, write_whole
from tasks.run.overview import overview
from tasks.run.pipeline import PipelineRun, page_address
from tasks.run.reporting import run_logger
from tasks.run.spec import StageSpec, stage_tags
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.datasets import stage_datasets
from tasks.tracking.facts import HOST_TAG, show_output, worker_tags
from tasks.tracking.metrics import COUNTING_SAMPLES, MetricBuffer, SystemMetrics
from tasks.tracking.outages import (
    REMEDY,
    OutageNote,
    Status,
    describe,
    drop_note,
    tolerated,
    write_note,
)
from tasks.tracking.recording import (
    page_folder,
    record_page,
    record_result,
    record_samples,
    shown_numbers,
    stage_parameters,
)

RUN_ID = "RUN_ID"
"""File in a stage's partial folder that names the MLflow run of its attempts."""

WAIT_SECONDS = 10.0
"""How long a finished stage waits for a server that is away."""

_begun: set[tuple[str, str]] = set()
"""Parents and digests that this process has shown: of a fresh parent, all that there is."""


@functools.cache
def _tracker(settings: Settings) -> Tracker:
    """One for all stages, so that each question about the experiment is asked once."""
    return Tracker(settings)


class StageRecord:
    """The run of one stage in one pipeline run; nothing is opened yet."""

    def __init__(
        self, spec: StageSpec, digest: str, pipeline: PipelineRun, settings: Settings
    ) -> None:
        self.spec = spec
        self.digest = digest
        self.pipeline = pipeline
        self.settings = settings
        self.tracker = _tracker(settings)
        self.name = f"{pipeline.part} {pipeline.name}/{spec.name}".lstrip()
        self.run_id = ""
        self._opened = False
        self._opening = threading.Lock()
        self._resumed = False
        self._partial = Path()
        self._datasets_shown = False
        self._buffer = self.tracker.buffer(self._run)
        self._load: SystemMetrics | None = None
        self._logger, self._overview = run_logger(), overview()

    def open(self, partial: Path) -> MetricBuffer:
        """Reopen the run of the attempt that was cut off, or start one; give what takes metrics."""
        self._partial = partial
        self._is_first()
        self.run_id = self._noted_run()
        self._resumed = bool(self.run_id)
        first_sample = 0
        with tolerated(f"the start of {self.spec.name}"):
            run_id = self._run()
            if self._resumed and self.spec.trains:
                samples = self.tracker.curve(run_id, COUNTING_SAMPLES)
                first_sample = max((step for step, _ in samples), default=-1) + 1
        if self.spec.trains:
            self._load = SystemMetrics(self._buffer, first_step=first_sample)
            self._load.start()
        return self._buffer

    def show_reuse(self, manifest: Manifest) -> None:
        with tolerated(f"the reuse of {self.spec.name}"):
            folder = Store(self.settings.store).folder(manifest.stage, manifest.digest)
            same = {"quartet.digest": self.digest, "mlflow.parentRunId": self.pipeline.run_id}
            shown = not self._is_first() and self.tracker.find_tagged(same)
            if not shown:  # by an earlier attempt of this flow run
                made_by = {"quartet.reused": "true", "quartet.made_by": manifest.run_id}
                run_id = self._start_run(made_by, shown_numbers(manifest, folder))
                self.tracker.finish(run_id, "FINISHED")
            show_output(self.tracker, self.pipeline.run_id, manifest, folder)
            record_samples(self.tracker, manifest.stage, folder, parent=self.pipeline.run_id)
            page = page_folder(self.settings.root, manifest.stage, manifest.digest)
            record_page(self.tracker, page, parent=self.pipeline.run_id)

    def settle(self) -> str:
        """Deliver what waits, after a while if MLflow is away, and return the run's id."""
        self._stop_sampling()
        if self.tracker.wait(WAIT_SECONDS):
            with contextlib.suppress(Exception):  # what is then missing is logged at the end
                self._run()
                self._buffer.flush()
        return self.run_id

    def finish(self, manifest: Manifest, folder: Path) -> None:
        """Record the result; what MLflow does not take is noted, and one line says so."""
        note = self._note("FINISHED", stage=self.spec.name)
        try:
            if not self._opened:
                raise ConnectionError("its run could not be opened")
            self.tracker.require()
            self._show_datasets(self.run_id)
            record_result(
                self.tracker,
                self.run_id,
                manifest,
                folder,
                parent=self.pipeline.run_id,
                tags=worker_tags(self.settings),
                page=page_folder(self.settings.root, manifest.stage, manifest.digest),
                repair=self._resumed or self._buffer.interrupted,
            )
        except QuartetError:
            raise
        except Exception as error:  # any failure of a remote service must leave results alone
            write_note(self.settings.root, note)
            self._logger.warning(
                "MLflow failed at the result of %s (%s): its last metrics, its files and its end "
                "could not be recorded; the result is safe in the store, and %s",
                self.spec.name, describe(error), REMEDY,
            )  # fmt: skip
        else:
            drop_note(self.settings.root, note.key)

    def abort(self, error: BaseException) -> None:
        """Mark the run of a stage that did not finish; without waiting, for a cancel cannot."""
        status: Status = "FAILED" if isinstance(error, Exception) else "KILLED"
        if isinstance(error, WaitingError):  # for people: it has no end yet
            status = "SCHEDULED"
        self._stop_sampling()
        try:
            self.tracker.require()
            self._buffer.flush()
            if self.run_id:
                self.tracker.finish(self.run_id, status)
        except Exception as error:  # any failure of a remote service must leave the cause alone
            self._logger.warning(
                "MLflow failed at the end of %s (%s): that it is %s could not be recorded; %s",
                self.spec.name, describe(error), status, REMEDY,
            )  # fmt: skip
            if self.run_id:
                write_note(self.settings.root, self._note(status))

    def _run(self) -> str:
        """Give the run's id, opening it now if MLflow was away before.

        The thread that delivers metrics and the end of the stage may both ask: one of them opens.
        """
        with self._opening:
            if not self._opened:
                self.tracker.require()
                if self.run_id and self.tracker.status(self.run_id) is not None:
                    self._take_over(self.run_id)
                else:
                    self.run_id = self._start_run({}, {})
                write_whole(self._partial / RUN_ID, self.run_id)
                drop_note(self.settings.root, self.run_id)
                self._opened = True
            return self.run_id

    def _noted_run(self) -> str:
        """The run of the attempt that was cut off; none where its note was torn by a power cut."""
        path = self._partial / RUN_ID
        content = path.read_bytes() if path.exists() else b""
        if content and not re.fullmatch(rb"[\w-]{1,64}\s*", content):
            self._logger.warning("%s names no run and is left out: %r", path, content[:40])
            return ""
        return content.decode().strip()

    def _take_over(self, run_id: str) -> None:
        """Continue a run under this pipeline; its old parent ends if nobody runs it any more.

        It may live: between two tries of a task the stage is free for others.
        """
        parent = self.tracker.tags(run_id).get("mlflow.parentRunId", "")
        stale = parent and parent != self.pipeline.run_id
        if stale and self.tracker.status(parent) == "RUNNING":
            here = socket.gethostname()
            host = self.tracker.tags(parent).get(HOST_TAG, here)
            if host == here and is_gone(self.settings, parent):
                self.tracker.finish(parent, "KILLED")
        self.tracker.reopen_run(run_id, self._tags() | {"quartet.resumed": "true"})
        self._show(run_id)

    def _is_first(self) -> bool:
        """Whether nothing of this stage can be in MLflow below this parent; true only once."""
        key = (self.pipeline.run_id, self.digest)
        first = self.pipeline.fresh and key not in _begun
        _begun.add(key)
        return first

    def _start_run(self, tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
        run_id = self.tracker.start_run(
            self.name,
            parameters=stage_parameters(self.pipeline.seed, self.spec.parameters),
            tags=self._tags() | dict(tags),
            metrics=metrics,
        )
        self._show(run_id, reused="quartet.reused" in tags)
        self._show_datasets(run_id)
        return run_id

    def _show_datasets(self, run_id: str) -> None:
        """Log the datasets as soon as they are here; those of another machine come later."""
        if self._datasets_shown:
            return
        with tolerated(f"the datasets of {self.spec.name}"):
            store = Store(self.settings.store)
            records = stage_datasets(self.spec.name, self.spec.inputs, store)
            for each in (run_id, self.pipeline.run_id):
                self.tracker.log_datasets(each, records or [])
            self._datasets_shown = records is not None

    def _stop_sampling(self) -> None:
        if self._load is not None:
            self._load.stop()

    def _show(self, run_id: str, *, reused: bool = False) -> None:
        address = page_address(self.settings, self.tracker, run_id)
        self._overview.link(self.spec.name, address)
        if address and self.spec.trains and not reused:
            self._logger.info("%s in MLflow: %s", self.spec.name, address)

    def _tags(self) -> dict[str, str]:
        return stage_tags(self.spec, self.digest, self.pipeline, page=self.tracker.page)

    def _note(self, status: Status, *, stage: str = "") -> OutageNote:
        """Written while MLflow is away, so links name no experiment, whose id it alone knows."""
        tags = stage_tags(self.spec, self.digest, self.pipeline, page=lambda run: f"#/runs/{run}")
        return OutageNote(
            name=self.name,
            run_id=self.run_id,
            status=status,
            stage=stage,
            digest=self.digest if stage else "",
            tags=tags,
        )
