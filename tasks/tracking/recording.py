"""What a finished stage leaves in MLflow."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.rows import read_rows
from tasks.results.curves import read_history
from tasks.results.store import Manifest
from tasks.tracking.client import Tracker
from tasks.tracking.facts import manifest_cost, show_output

SAMPLES = "samples.jsonl"


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Write nested parameters flat and dotted: {"ppo": {"gamma": 1}} -> {"ppo.gamma": "1"}."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        flat |= flatten(item, f"{name}.") if isinstance(item, Mapping) else {name: str(item)}
    return flat


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


NOTE_CHARACTERS = 8000
"""What MLflow takes as the text of a run's page."""

REPORT, PLOTS, ABOUT = "report.md", "plots", "page.json"


class PageRecord(BaseModel):
    """A page without its text and pictures.

    Attributes:
        title: In one line.
        pictures: Names of the PNGs in the order in which they are shown.
        on_pipeline: Whether text and pictures also stand on the pipeline's run.
        tags: Of the pipeline's run.
    """

    model_config = ConfigDict(frozen=True)

    title: str
    pictures: list[str] = Field(default_factory=list)
    on_pipeline: bool = False
    tags: dict[str, str] = Field(default_factory=dict)


def page_folder(root: Path, stage: str, digest: str) -> Path:
    """Where the page of a result lies, or would."""
    return root / "reports" / stage / digest


def read_page(folder: Path) -> PageRecord | None:
    """What is known of a page; None where there is none."""
    path = folder / ABOUT
    return PageRecord.model_validate_json(path.read_bytes()) if path.is_file() else None


def record_page(tracker: Tracker, folder: Path, *, run_id: str = "", parent: str = "") -> None:
    """Put a page on the run of its stage and, if it belongs there, on the pipeline's run.

    Args:
        tracker: Where to.
        folder: Of the page; nothing is recorded where there is none.
        run_id: The stage's run; empty for one that shows the page already.
        parent: The pipeline's run; empty where none is known.
    """
    page = read_page(folder)
    if page is None:
        return
    if run_id:
        tracker.log_folder(run_id, folder, "report")
    if parent and page.on_pipeline:
        text = (folder / REPORT).read_text(encoding="utf-8")
        if page.pictures:
            tracker.log_folder(parent, folder / PLOTS, PLOTS)
        tracker.set_tags(parent, {**page.tags, "mlflow.note.content": text[:NOTE_CHARACTERS]})
