"""Where an experiment's files lie: within reach of this process, with a server or without.

A server of the home folder hands files out under addresses of its own, `mlflow-artifacts:/…`, and
keeps them in the home folder. Runs that were recorded through it are read and continued without it
too. An experiment that a local run began names a folder instead, which other hosts do not have; a
folder of theirs at the same path is another one.
"""

import contextlib
import sqlite3
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


def check_experiment(experiment: Any, *, served: bool, home: Path) -> None:
    """Make sure that results can be recorded in an experiment.

    Args:
        experiment: MLflow's.
        served: Whether a server answers for it.
        home: The home folder of this process.

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
    in_folder = served and at.scheme in ("", "file")
    if in_folder and not (folder.parent.is_dir() and _is_here(folder, experiment, home)):
        raise QuartetError(
            f"MLflow's experiment {name!r} keeps its files in {folder} of the host where it was "
            "begun without a server, which this host does not reach; choose another name with "
            "QUARTET_EXPERIMENT, the same on all hosts"
        )


def _is_here(folder: Path, experiment: Any, home: Path) -> bool:
    """Whether a folder is on a shared disk, or of the home of this host that began an experiment.

    Where that began elsewhere, in a home at the same path, the one here does not know it.
    """
    database = folder.parent / "mlflow.db"
    if folder.name != FILES or (folder.parent != home and not database.exists()):
        return True
    at = f"{database.as_uri()}?mode=ro"
    asked = "SELECT 1 FROM experiments WHERE experiment_id = ? AND creation_time = ?"
    try:
        with contextlib.closing(sqlite3.connect(at, uri=True, timeout=60)) as opened:
            known = (experiment.experiment_id, experiment.creation_time)
            return opened.execute(asked, known).fetchone() is not None
    except sqlite3.Error:  # there is none
        return False
