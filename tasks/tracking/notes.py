"""Notes of what MLflow was not there to take, one small file each in the home folder.

The end of a pipeline delivers those of its own stages if the server is back by then; `quartet sync`
delivers all of them.
"""

import logging
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.results.files import write_whole

logger = logging.getLogger(__name__)

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED", "SCHEDULED"]

REMEDY = "when the server is back, `quartet sync` records it"


class Unrecorded(BaseModel):
    """What MLflow has yet to be told about one run.

    Attributes:
        name: Of the run.
        run_id: Of the run; empty if it could not be opened.
        status: How it ended.
        stage: Of a published result; empty where only the end is missing.
        digest: Of the published result.
        tags: Of the run.
    """

    model_config = ConfigDict(frozen=True)

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


def write_note(root: Path, note: Unrecorded) -> None:
    """Leave a note, in the place of an older one of the same result or run."""
    write_whole(_path(root, note.key), note.model_dump_json(indent=2))


def read_notes(root: Path) -> list[Unrecorded]:
    """Return every note: results first, in the order they were made, then ends of runs.

    One that cannot be read counts as none, with a warning.
    """
    paths = sorted(_path(root, "x").parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
    notes = []
    for path in paths:
        try:
            notes.append(Unrecorded.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            logger.warning("left out the note %s, which cannot be read: %s", path, error)
    return sorted(notes, key=lambda note: not note.stage)


def drop_note(root: Path, key: str) -> None:
    """Take a note away, for it was delivered or the run goes on."""
    if key:
        _path(root, key).unlink(missing_ok=True)


def _path(root: Path, key: str) -> Path:
    return root / "unrecorded" / f"{key}.json"
