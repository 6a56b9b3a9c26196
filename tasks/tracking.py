"""The only module that imports mlflow: runs, parameters, metrics, tags and artifacts.

Runs are opened from explicit ids, never from MLflow's ambient run, which is local to a thread
and vanishes under an orchestrator. An outage in the middle of a run loses no training: metrics
wait in memory and go out with the next delivery; what could not be delivered is warned about.
"""

import contextlib
import functools
import http.client
import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from models.errors import QuartetError
from tasks.settings import Settings

__all__ = ["MetricBuffer", "Status", "Tracker", "flatten", "tolerated"]

logger = logging.getLogger(__name__)

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

PUBLISHED = "published"
"""Artifact folder of a stage run that holds what the store holds."""

BATCH = 100
"""Parameters of one request, MLflow's own limit."""

DELIVERY_SECONDS = 2.0
"""Least time between two deliveries of metrics."""

LONGEST_PAUSE_SECONDS = 300.0
"""Most time between two tries while MLflow cannot be reached; each one may block for a while."""


class Tracker:
    """Records pipeline and stage runs in one MLflow experiment."""

    def __init__(self, settings: Settings) -> None:
        """Say where to record; nothing is opened yet, so an outage does no harm."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        self.uri = settings.mlflow_uri
        self._settings = settings
        if not self.uri.startswith("http"):
            settings.root.mkdir(parents=True, exist_ok=True)
            logging.getLogger("alembic").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.uri)

    @functools.cached_property
    def client(self) -> Any:
        """MLflow's own client; making one opens a local database."""
        return MlflowClient(tracking_uri=self.uri)

    @functools.cached_property
    def experiment_id(self) -> str:
        """Id of the experiment, which is made if it is new."""
        name = self._settings.experiment
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            location = self._settings.artifact_location
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another run made it in between
            return str(self.client.get_experiment_by_name(name).experiment_id)

    def check(self) -> None:
        """Make sure, before anything is computed, that runs can be recorded.

        Raises:
            QuartetError: The server does not answer or refuses, or the experiment was deleted.
        """
        if self.uri.startswith("http"):
            _check_health(self.uri)
        try:
            stage = self.client.get_experiment(self.experiment_id).lifecycle_stage
        except Exception as error:  # MLflow passes on errors of several libraries
            raise QuartetError(
                f"MLflow at {self.uri} does not open experiment {self._settings.experiment!r} "
                f"({error}); mend it, or choose another with QUARTET_TRACKING_URI"
            ) from error
        if stage == "deleted":
            raise QuartetError(
                f"MLflow's experiment {self._settings.experiment!r} was deleted; restore it with "
                f"`mlflow experiments restore -x {self.experiment_id}`, or choose another name "
                "with QUARTET_EXPERIMENT"
            )

    def start_run(
        self, name: str, *, parameters: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        """Open a run with its parameters and return its id."""
        run = self.client.create_run(
            self.experiment_id, run_name=name, start_time=_now(), tags=dict(tags)
        )
        run_id: str = run.info.run_id
        params = [Param(key, value[:6000]) for key, value in parameters.items()]
        for start in range(0, len(params), BATCH):
            self.client.log_batch(run_id, params=params[start : start + BATCH])
        return run_id

    def reopen_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set a run that was cut off to running again."""
        self.client.update_run(run_id, status="RUNNING")
        self.set_tags(run_id, tags)

    def status(self, run_id: str) -> str | None:
        """Return a run's status, or None where MLflow does not know it or has it deleted."""
        try:
            info = self.client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return None if info.lifecycle_stage == "deleted" else str(info.status)

    def tags(self, run_id: str) -> dict[str, str]:
        """Return a run's tags."""
        return dict(self.client.get_run(run_id).data.tags)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run."""
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_final(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log final metrics at step 0."""
        now = _now()
        self.client.log_batch(
            run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()]
        )

    def log_folder(self, run_id: str, folder: Path, name: str = PUBLISHED) -> None:
        """Log a folder as artifacts of a run."""
        self.client.log_artifacts(run_id, str(folder), artifact_path=name)

    def log_table(self, run_id: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log rows as a table that MLflow's page shows; once, for each call rewrites it."""
        columns = {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
        if columns:
            self.client.log_table(run_id, data=columns, artifact_file=name)

    def finish(self, run_id: str, status: Status) -> None:
        """Close a run."""
        self.client.set_terminated(run_id, status=status)

    def find_published(self, digest: str) -> str | None:
        """Return the newest finished run that published a digest."""
        runs = self.client.search_runs(
            [self.experiment_id],
            filter_string=f"tags.`quartet.published` = '{digest}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        return str(runs[0].info.run_id) if runs else None

    def fetch_published(self, run_id: str, into: Path) -> Path:
        """Download a published folder and return where it lies."""
        return Path(self.client.download_artifacts(run_id, PUBLISHED, dst_path=str(into)))

    def page(self, run_id: str) -> str:
        """Address of a run's page, relative to the MLflow server's root."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}"

    def buffer(self, run_id: str) -> "MetricBuffer":
        """Collect step metrics of a run and deliver them in batches."""
        return MetricBuffer(lambda batch: self.client.log_batch(run_id, metrics=list(batch)))


class MetricBuffer:
    """Metrics on their way to a run; an outage delays them but never stops training."""

    def __init__(self, deliver: Callable[[Iterable[Metric]], None]) -> None:
        """Deliver by calling `deliver` with a batch."""
        self._deliver = deliver
        self._waiting: list[Metric] = []
        self._pause = DELIVERY_SECONDS
        self._last_try = time.monotonic()
        self._warned = False

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Take metrics of a step, and deliver what waits if it is time."""
        now = _now()
        self._waiting += [Metric(name, value, now, step) for name, value in metrics.items()]
        if time.monotonic() - self._last_try >= self._pause:
            self.flush()

    def flush(self) -> bool:
        """Deliver what waits; False if it could not be delivered and still waits."""
        try:
            while self._waiting:
                self._deliver(self._waiting[:1000])
                del self._waiting[:1000]
        except Exception as error:  # any failure of a remote service must leave training alone
            if not self._warned:
                logger.warning(
                    "MLflow cannot be reached (%s); %d metrics wait", error, len(self._waiting)
                )
            self._warned = True
            self._pause = min(LONGEST_PAUSE_SECONDS, max(30.0, 2 * self._pause))
            return False
        finally:
            self._last_try = time.monotonic()
        self._warned = False
        self._pause = DELIVERY_SECONDS
        return True


@contextlib.contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Turn a failure to record something into a warning: results do not depend on MLflow."""
    try:
        yield
    except QuartetError:
        raise
    except Exception as error:  # any failure of a remote service must leave results alone
        logger.warning("MLflow failed at %s; the run goes on without it: %s", what, error)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Write nested parameters flat and dotted: {"ppo": {"gamma": 1}} -> {"ppo.gamma": "1"}."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{name}.")
        else:
            flat[name] = str(item)
    return flat


def _check_health(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
            return
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise QuartetError(
            f"the MLflow server at {uri} does not answer ({error}); start it, or unset "
            "QUARTET_TRACKING_URI to record in a local database"
        ) from error


def _now() -> int:
    return int(time.time() * 1000)
