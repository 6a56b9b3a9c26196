"""What a finished stage leaves in MLflow, and notes of what MLflow was not there to take.

A note is a small file in the home folder. The end of the pipeline delivers those of its own stages
if the server is back by then; `quartet sync` delivers all of them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from models.rows import read_rows
from tasks.results.curves import read_history
from tasks.results.store import Manifest
from tasks.tracking.client import Status, Tracker, flatten
from tasks.tracking.facts import manifest_cost
from tasks.tracking.pages import record_page
from tasks.tracking.summary import show_output

SAMPLES = "samples.jsonl"

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


def manifest_parameters(manifest: Manifest) -> dict[str, str]:
    """Parameters as the run of a stage shows them."""
    return {"seed": str(manifest.seed), **flatten(manifest.parameters)}


def record_result(
    tracker: Tracker,
    run_id: str,
    manifest: Manifest,
    folder: Path,
    *,
    parent: str,
    page: Path,
    tags: Mapping[str, str] = MappingProxyType({}),
    mend: bool,
) -> int:
    """Log what the run of a finished stage should hold, close it, and tell its pipeline's run.

    Args:
        tracker: Where to.
        run_id: The run.
        manifest: Of the result.
        folder: The result.
        parent: The pipeline's run; empty where none is known.
        page: Folder of its page, if there is one.
        tags: More of the run.
        mend: Whether parts may be there or missing already, after an outage or a crash: each is
            then compared with the folder and only what the run lacks is logged.

    Returns:
        How many points of curves were missing.
    """
    curves = read_history(folder)  # a final number must not land at the start of its curve
    metrics = manifest.metrics | manifest_cost(manifest, folder).metrics()
    final = {name: value for name, value in metrics.items() if name not in curves}
    missing = 0
    if mend:
        tracker.log_parameters(run_id, manifest_parameters(manifest))
        missing = tracker.log_missing(run_id, curves)
        there = tracker.metrics(run_id)
        final = {name: value for name, value in final.items() if name not in there}
    tracker.log_final(run_id, final)
    tracker.log_folder(run_id, folder)
    if (folder / SAMPLES).exists():
        tracker.log_table(run_id, read_rows(folder / SAMPLES), "samples.json")
    tracker.set_tags(run_id, {**tags, "quartet.published": manifest.digest})
    tracker.finish(run_id, "FINISHED")
    if parent:
        show_output(tracker, parent, manifest, folder, run_id=run_id)
    record_page(tracker, page, run_id=run_id, parent=parent)
    return missing


def write_note(root: Path, note: Unrecorded) -> None:
    """Leave a note, in the place of an older one of the same result or run."""
    path = _path(root, note.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(note.model_dump_json(indent=2), encoding="utf-8")
    os.replace(scratch, path)


def read_notes(root: Path) -> list[Unrecorded]:
    """Return every note: results first, in the order they were made, then ends of runs."""
    paths = sorted(_path(root, "x").parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
    notes = [Unrecorded.model_validate_json(path.read_bytes()) for path in paths]
    return sorted(notes, key=lambda note: not note.stage)


def drop_note(root: Path, key: str) -> None:
    """Take a note away, for it was delivered or the run goes on."""
    if key:
        _path(root, key).unlink(missing_ok=True)


def _path(root: Path, key: str) -> Path:
    return root / "unrecorded" / f"{key}.json"
