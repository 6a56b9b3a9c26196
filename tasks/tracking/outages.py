"""Outages of MLflow: whether it answers, and notes of what it has missed.

A note is one small file in the home folder. The end of a pipeline delivers those of its own stages
if the server is back by then; `quartet sync` delivers all of them.
"""

import http.client
import logging
import urllib.request
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from models.errors import QuartetError
from tasks.results.store import write_whole

logger = logging.getLogger(__name__)

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED", "SCHEDULED"]

REMEDY = "when the server is back, `quartet sync` records it"


class OutageNote(BaseModel, frozen=True):
    """What MLflow has missed of one run.

    Attributes:
        run_id: Empty if the run could not be opened.
        stage: Of a published result; empty where only the run's end is missing.
    """

    name: str
    run_id: str
    status: Status
    stage: str = ""
    digest: str = ""
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the note's file: the result's, or the run's whose end is missing."""
        return f"{self.stage}-{self.digest}" if self.stage else self.run_id


def write_note(root: Path, note: OutageNote) -> None:
    """Leave a note, in the place of an older one of the same result or run."""
    write_whole(_path(root, note.key), note.model_dump_json(indent=2))


def read_notes(root: Path) -> list[OutageNote]:
    """Return every note: results first, in the order they were made, then ends of runs.

    One that cannot be read counts as none, with a warning.
    """
    paths = sorted(_path(root, "x").parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
    notes = []
    for path in paths:
        try:
            notes.append(OutageNote.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            logger.warning("left out the note %s, which cannot be read: %s", path, error)
    return sorted(notes, key=lambda note: not note.stage)


def drop_note(root: Path, key: str) -> None:
    """Take a note away, for it was delivered or the run was resumed."""
    if key:
        _path(root, key).unlink(missing_ok=True)


def _path(root: Path, key: str) -> Path:
    return root / "unrecorded" / f"{key}.json"


NO_ANSWER = (OSError, ValueError, http.client.HTTPException)

PROBE_SECONDS, START_SECONDS, PATIENCE_SECONDS = 2.0, 5.0, 15.0
"""How long a server may take to answer; the second before a pipeline starts, which needs it; the
third where nothing else is to be done."""


def answers(uri: str, *, patient: bool = False) -> bool:
    """Whether a server answers; one that hangs costs two seconds, or 15 if that is worth it."""
    try:
        _ask(uri, PATIENCE_SECONDS if patient else PROBE_SECONDS)
    except NO_ANSWER:
        return False
    return True


def check_health(uri: str) -> None:
    """Make sure that a server answers.

    Raises:
        QuartetError: It does not, or something else answers there.
    """
    try:
        _ask(uri, START_SECONDS)
    except NO_ANSWER as error:
        raise QuartetError(
            f"the MLflow server at {uri} does not answer ({error}); start it, or unset "
            "QUARTET_TRACKING_URI to record in a local database"
        ) from error


def _ask(uri: str, seconds: float) -> None:
    urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=seconds).close()
