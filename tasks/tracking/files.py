"""Where an experiment's files lie: within reach of this process, with a server or without.

A server of the home folder hands files out under addresses of its own, `mlflow-artifacts:/…`, and
keeps them in the home folder. Runs that were recorded through it are read and continued without it
too. An experiment that a local run began names a folder instead, which other hosts do not have.
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from models.errors import QuartetError
from tasks.tracking.lazy import mlflow, repositories

FILES = "mlflow-artifacts"
"""The folder of the home folder, and the scheme of a server's addresses."""

DATABASE = "sqlite:///"


def find_own_files() -> None:
    """Let a local database stand in for the home's server with its files too, in this process."""
    repositories._artifact_repository_registry.register(FILES, _repository)


def _repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    tracking = tracking_uri or mlflow.get_tracking_uri()
    if not tracking.startswith(DATABASE):
        return repositories.MlflowArtifactsRepository(artifact_uri, tracking, registry_uri)
    folder = Path(tracking.removeprefix(DATABASE)).parent / FILES
    below = unquote(urlsplit(artifact_uri).path).lstrip("/")
    return repositories.LocalArtifactRepository(str(folder / below))


def check_experiment(experiment: Any, *, served: bool) -> None:
    """Make sure that results can be recorded in an experiment.

    Args:
        experiment: MLflow's.
        served: Whether a server answers for it.

    Raises:
        QuartetError: It was deleted, or its files would lie in a folder that this host lacks.
    """
    name = experiment.name
    if experiment.lifecycle_stage == "deleted":
        raise QuartetError(
            f"MLflow's experiment {name!r} was deleted; restore it with `mlflow experiments "
            f"restore -x {experiment.experiment_id}`, or choose another name with "
            "QUARTET_EXPERIMENT"
        )
    at = urlsplit(experiment.artifact_location)
    folder = Path(unquote(at.path))
    if served and at.scheme in ("", "file") and not folder.parent.is_dir():
        raise QuartetError(
            f"MLflow's experiment {name!r} keeps its files in {folder}, a folder that this host "
            "does not have: it was begun without a server; choose another name with "
            "QUARTET_EXPERIMENT, the same on all hosts"
        )
