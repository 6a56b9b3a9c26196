"""The pages that people see of results, as they lie in the home folder and go to MLflow.

    reports/<stage>/<digest>/report.md    the text
    reports/<stage>/<digest>/plots/*.png  its pictures
    reports/<stage>/<digest>/page.json    what else there is to know of it

A page can be made again from its result at any time; it belongs to no digest.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tasks.tracking.client import Tracker

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
