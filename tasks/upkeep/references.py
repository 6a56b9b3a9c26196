"""What refers to published stages: the registry, MLflow's runs, notes that wait, running pipelines.

Read for `quartet gc`, so in doubt something counts as referred to.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from models.errors import QuartetError
from tasks.machine.liveness import Note, runs_folder
from tasks.results.digests import DIGEST
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import describe, read_notes
from tasks.tracking.queries import BELOW

NAMING = ("quartet.digest", "quartet.published")
"""Tags that hold a digest, beside those of the inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Digests that something outside the store names, and the names of running pipeline runs."""

    digests: frozenset[str]
    running: tuple[str, ...]


def read_references(settings: Settings, tracker: Tracker) -> References:
    """Read everything that refers to published stages.

    Raises:
        QuartetError: MLflow does not answer, or not to the end.
    """
    # First: a run that ends meanwhile, or a note that is delivered, has then left its tags.
    notes = {path.stem: _is_dead(path) for path in sorted(runs_folder(settings).glob("*.json"))}
    unrecorded = read_notes(settings.root)
    tracker.check()
    try:
        runs = list(tracker.runs(experiments=tracker.experiments()))
        versions = list(tracker.versions())
        active = {run.info.run_id for run in runs}
        gone = {
            parent
            for parent in {_parent(run) for run in runs} - active - {""}
            if tracker.was_deleted(parent)
        }
    except Exception as error:  # MLflow passes on errors of several libraries
        raise QuartetError(
            f"MLflow at {tracker.uri} did not tell what is referred to ({describe(error)}), and "
            "nothing is "
            "removed without knowing it; repair it and try again"
        ) from error
    digests = set()
    for run in runs:
        if _parent(run) not in gone:
            digests |= _named(run.data.tags)
    for version in versions:
        digests |= _named(version.tags)
    for note in unrecorded:
        digests |= _named(note.tags) | ({note.digest} if note.digest else set())
    names = {str(run.info.run_id): str(run.info.run_name) for run in runs}
    open_runs = [
        str(run.info.run_id)
        for run in runs
        if run.info.status == "RUNNING"
        and run.data.tags.get("quartet.kind", "stage") not in BELOW  # or a guest of the server
        and not notes.get(run.info.run_id)
    ]
    alive = [one for one, dead in notes.items() if not dead]
    running = dict.fromkeys(names.get(one, one) for one in alive + open_runs)
    return References(digests=frozenset(digests), running=tuple(running))


def _named(tags: Mapping[str, str]) -> set[str]:
    """Every digest that tags name, their stage's own and those of its inputs."""
    texts = [text for key, text in tags.items() if key in NAMING or key.startswith("input.")]
    return {match for text in texts for match in DIGEST.findall(text)}


def _parent(run: Any) -> str:
    return str(run.data.tags.get("mlflow.parentRunId", ""))


def _is_dead(path: Path) -> bool:
    """Whether the process that left a note has ended; one of another machine has not."""
    if Note(path).read().get("host") != socket.gethostname():
        return False
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            return True
    except (Timeout, OSError):
        return False
