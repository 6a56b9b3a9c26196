"""All that is asked of MLflow: runs, parameters, metrics, tags, inputs, artifacts and versions.

Only `metrics.py` imports mlflow too, for its collectors, and others through `lazy.py`. Runs are
opened from explicit ids, never from MLflow's ambient run, which is local to a thread and vanishes
under an orchestrator. An outage in the middle of a run loses nothing: metrics wait and go out later
(`tasks/tracking/metrics.py`), and what logs a result may be called again.
"""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from tasks.settings import Settings
from tasks.tracking.database import Undisturbed, create_database
from tasks.tracking.datasets import DatasetRecord
from tasks.tracking.files import check_experiment, find_own_files
from tasks.tracking.lazy import entities, mlflow
from tasks.tracking.metrics import BATCH, MetricBuffer, Point
from tasks.tracking.outages import (
    OutageNote,
    Status,
    answers,
    check_health,
    explain_unopened,
    write_note,
)
from tasks.tracking.queries import WEIGHTS_REMOVED, every, tagged, with_names

PUBLISHED = "published"
"""Artifact folder of a stage run that holds what the store holds."""

Texts: TypeAlias = Mapping[str, str]
Numbers: TypeAlias = Mapping[str, float]

PARAMETERS = 100
"""Parameters of one request, MLflow's own limit."""


class Tracker:
    """Records pipeline and stage runs in one MLflow experiment."""

    def __init__(self, settings: Settings) -> None:
        """Say where to record; nothing is opened yet, so an outage does no harm."""
        # What it says of each registered version is neither news nor true: it waits for nothing.
        logging.getLogger("mlflow.store.model_registry").setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        self.uri, self._settings = settings.mlflow_uri, settings
        if not self.uri.startswith("http"):
            settings.root.mkdir(parents=True, exist_ok=True)
            logging.getLogger("alembic").setLevel(logging.WARNING)
            # What it logs with a traceback it also raises, and that is said in one sentence.
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

    @functools.cached_property
    def client(self) -> Any:
        """MLflow's own client; making one opens a local database."""
        if not self._settings.tracking_uri:
            create_database(self._settings.root / "mlflow.db", _migrate)
            find_own_files()
        mlflow.set_tracking_uri(self.uri)
        client = mlflow.MlflowClient(tracking_uri=self.uri)
        return client if self.uri.startswith("http") else Undisturbed(client)

    @functools.cached_property
    def experiment_id(self) -> str:
        """Id of the experiment, which is made if it is new."""
        name = self._settings.experiment
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            location = self._settings.artifact_location
            kind = {"mlflow.experimentKind": "custom_model_development"}  # what its pages show
            return str(self.client.create_experiment(name, artifact_location=location, tags=kind))
        except mlflow.MlflowException:
            if (found := self.client.get_experiment_by_name(name)) is None:
                raise
            return str(found.experiment_id)  # another run made it in between

    def check(self) -> None:
        """Make sure, before anything is computed, that runs can be recorded.

        Raises:
            QuartetError: The server does not answer or refuses, or as `check_experiment`.
        """
        if self.uri.startswith("http"):
            check_health(self.uri)
        try:
            experiment = self.client.get_experiment(self.experiment_id)
        except Exception as error:  # MLflow passes on errors of several libraries
            raise explain_unopened(error, self._settings) from error
        check_experiment(experiment, served=self.uri.startswith("http"), home=self._settings.root)

    def reachable(self) -> bool:
        """Whether it is worth a try: a server that is down or hangs costs two seconds at most."""
        return not self.uri.startswith("http") or answers(self.uri)

    def require(self, *, patient: bool = False) -> None:
        """Fail at once, instead of after MLflow's own patience, where it is not worth a try."""
        if self.uri.startswith("http") and not answers(self.uri, patient=patient):
            raise ConnectionError(f"the server at {self.uri} does not answer")

    def wait(self, seconds: float) -> bool:
        """Give a server that is away some time to come back; False if it did not."""
        deadline = time.monotonic() + seconds
        while not self.reachable():
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(1.0, seconds))
        return True

    def start_run(
        self, name: str, *, parameters: Texts, tags: Texts, metrics: Numbers = MappingProxyType({})
    ) -> str:
        """Open a run with its parameters and return its id; one without them is closed again."""
        given = {"run_name": name, "start_time": _now(), "tags": with_names(tags)}
        run_id: str = self.client.create_run(self.experiment_id, **given).info.run_id
        try:
            self.log_parameters(run_id, parameters, metrics)
        except BaseException:
            try:
                self.finish(run_id, "FAILED")
            except Exception:  # MLflow is away: `quartet sync` closes it
                end = OutageNote(name=name, run_id=run_id, status="FAILED")
                write_note(self._settings.root, end)
            raise
        return run_id

    def log_parameters(
        self, run_id: str, parameters: Texts, metrics: Numbers = MappingProxyType({})
    ) -> None:
        """Log parameters but for empty ones, which say nothing; to log them again does nothing."""
        params = [entities.Param(key, value[:6000]) for key, value in parameters.items() if value]
        points = [entities.Metric(name, value, _now(), 0) for name, value in metrics.items()]
        for at in range(0, len(params) or bool(points), PARAMETERS):
            self.client.log_batch(run_id, points, params[at : at + PARAMETERS])
            points = []

    def reopen_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.client.update_run(run_id, status="RUNNING")
        self.log(run_id, tags=tags)

    def status(self, run_id: str) -> str | None:
        """Return a run's status, or None where MLflow does not know it or has it deleted."""
        info = self._info(run_id)
        return None if info is None or info.lifecycle_stage == "deleted" else str(info.status)

    def run_name(self, run_id: str) -> str:
        """Return a run's name; empty where MLflow does not know it."""
        info = self._info(run_id)
        return "" if info is None else str(info.run_name)

    def was_deleted(self, run_id: str) -> bool:
        """Whether somebody deleted a run that MLflow once had."""
        info = self._info(run_id)
        return info is not None and info.lifecycle_stage == "deleted"

    def _info(self, run_id: str) -> Any:
        try:
            return self.client.get_run(run_id).info
        except mlflow.MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise  # the other one is for an id that no run can have
            return None

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.client.get_run(run_id).data.tags)

    def metrics(self, run_id: str) -> dict[str, float]:
        """Return the last value of each of a run's metrics."""
        return dict(self.client.get_run(run_id).data.metrics)

    def curve(self, run_id: str, name: str) -> list[tuple[int, float]]:
        """Return a metric's points, (step, value) in step order; one a step."""
        history = self.client.get_metric_history(run_id, name)
        return sorted({point.step: point.value for point in history}.items())

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log points of curves; to log the same ones again does nothing."""
        metrics = [
            entities.Metric(point.name, point.value, point.time_ms, point.step) for point in points
        ]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def log(
        self,
        run_id: str,
        *,
        metrics: Numbers = MappingProxyType({}),
        tags: Texts = MappingProxyType({}),
    ) -> None:
        """Log final metrics at step 0 and tags in one request."""
        points = [entities.Metric(name, value, _now(), 0) for name, value in metrics.items()]
        added = [entities.RunTag(key, value) for key, value in tags.items()]
        self.client.log_batch(run_id, metrics=points, tags=added)

    def log_datasets(self, run_id: str, records: Sequence[DatasetRecord]) -> None:
        """Log datasets as inputs of a run; to log the same ones again does nothing."""
        name = "mlflow.data.context"
        inputs = [
            entities.DatasetInput(
                entities.Dataset(**one.fields()), [entities.InputTag(name, one.context)]
            )
            for one in records
        ]
        if inputs:
            self.client.log_inputs(run_id, datasets=inputs)

    def log_folder(self, run_id: str, folder: Path, name: str = PUBLISHED) -> None:
        self.client.log_artifacts(run_id, str(folder), artifact_path=name)

    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        self.client.log_artifact(run_id, str(file), artifact_path=folder)

    def fetch_file(self, run_id: str, name: str, into: Path) -> Path | None:
        """Download one of a run's files; None where the run has none of that name."""
        there = self.client.list_artifacts(run_id, name.rpartition("/")[0])
        if name not in {file.path for file in there}:
            return None
        return Path(self.client.download_artifacts(run_id, name, dst_path=str(into)))

    def log_table(self, run_id: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log rows as a table that MLflow's page shows, unless the run has it already."""
        columns = {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
        if columns and name not in {file.path for file in self.client.list_artifacts(run_id)}:
            self.client.log_table(run_id, data=columns, artifact_file=name)

    def finish(self, run_id: str, status: Status) -> None:
        """Close a run; one that is only suspended has no end yet."""
        if status == "SCHEDULED":
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status=status)

    def runs(
        self, where: str = "", *, experiments: Sequence[str] = (), page: int = 1000
    ) -> Iterator[Any]:
        """All runs that pass a filter, the newest first; of its own experiment unless named.

        Args:
            page: Runs that are asked for at once; each costs, so few where few are wanted.
        """
        return every(
            self.client.search_runs,
            experiment_ids=[*experiments] or [self.experiment_id],
            filter_string=where,
            max_results=page,
            order_by=["attributes.start_time DESC"],
        )

    def experiments(self) -> list[str]:
        """Ids of all experiments: several may share one store."""
        return [str(one.experiment_id) for one in every(self.client.search_experiments)]

    def versions(self, where: str = "", *, page: int = 1000) -> Iterator[Any]:
        """All versions of registered models that pass a filter, the newest first."""
        asked = {"filter_string": where, "max_results": page, "order_by": ["version_number DESC"]}
        return every(self.client.search_model_versions, **asked)

    def find_tagged(self, tags: Mapping[str, str], *, status: str = "") -> list[str]:
        """Return the runs that carry all these tags, the newest first."""
        where = tagged(tags) + (f" and attributes.status = '{status}'" if status else "")
        return [str(run.info.run_id) for run in self.runs(where)]

    def find_published(self, digest: str) -> str | None:
        """Return the newest run that published a digest and has it still."""
        self.require()
        where = f"{tagged({'quartet.published': digest})} and tags.`{WEIGHTS_REMOVED}` IS NULL"
        newest = next(self.runs(where, page=1), None)
        return None if newest is None else str(newest.info.run_id)

    def fetch_published(self, run_id: str, into: Path) -> Path:
        """Download a published folder and return where it lies."""
        return Path(self.client.download_artifacts(run_id, PUBLISHED, dst_path=str(into)))

    def page(self, run_id: str) -> str:
        """Address of a run's page below the server's root, in MLflow's view for training."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}?workflowType=machine_learning"

    def buffer(self, run: Callable[[], str]) -> MetricBuffer:
        """Collect step metrics and deliver them in batches to the run that `run` gives."""
        return MetricBuffer(lambda batch: self.log_points(run(), batch), ready=self.reachable)


def _migrate(database: Path) -> None:
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()


def _now() -> int:
    return int(time.time() * 1000)
