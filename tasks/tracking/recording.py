"""What a finished stage leaves in MLflow."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from models.evaluation.result import SAMPLES, side_by_side
from models.rows import read_rows
from tasks.catalogue import entry
from tasks.escaping import for_markdown
from tasks.results.curves import read_history
from tasks.results.store import Manifest
from tasks.tracking.client import Tracker
from tasks.tracking.facts import DIGITS, GROUP, manifest_cost, show_output
from tasks.tracking.metrics import Point, without_silent

REPORT, PLOTS, ABOUT = "report.md", "plots", "page.json"

NOTE = "quartet.note"
NOTE_CHARACTERS = 8000
"""What MLflow takes as the text of a run's page."""


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Write nested parameters flat and dotted: {"ppo": {"gamma": 1}} -> {"ppo.gamma": "1"}."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        flat |= flatten(item, f"{name}.") if isinstance(item, Mapping) else {name: str(item)}
    return flat


def stage_parameters(seed: int, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as the run of a stage shows them."""
    return {"seed": str(seed), **flatten(parameters)}


def note_tags(note: str, text: str = "") -> dict[str, str]:
    """Tags that show a person's note, and a page's text below it, as what MLflow says of a run."""
    shown = "\n\n".join(part for part in (for_markdown(note), text) if part)
    tags = {NOTE: note, "mlflow.note.content": shown[:NOTE_CHARACTERS]}
    return {name: value for name, value in tags.items() if value}


def record_result(
    tracker: Tracker,
    run_id: str,
    manifest: Manifest,
    folder: Path,
    *,
    parent: str,
    page: Path,
    tags: Mapping[str, str] = MappingProxyType({}),
    repair: bool,
) -> int:
    """Log what the run of a finished stage should hold, close it, and show it on its parent.

    Args:
        parent: The pipeline's run; empty where none is known.
        page: Folder of its page, if there is one.
        repair: Whether an outage or a crash may have left a part of it there already: only what
            the run lacks is then logged.

    Returns:
        How many points of curves were missing.
    """
    curves = without_silent(read_history(folder))
    final = shown_numbers(manifest, folder)
    missing = 0
    if repair:
        tracker.log_parameters(run_id, stage_parameters(manifest.seed, manifest.parameters))
        missing = log_missing(tracker, run_id, curves)
        there = tracker.metrics(run_id)
        final = {name: value for name, value in final.items() if name not in there}
    tracker.log(run_id, metrics=final)
    tracker.log_folder(run_id, folder)
    record_samples(tracker, manifest.stage, folder, run_id=run_id, parent=parent)
    scale = {f"quartet.{name}": str(value) for name, value in manifest.scale.items()}
    tracker.log(run_id, tags={**tags, **scale, "quartet.published": manifest.digest})
    tracker.finish(run_id, "FINISHED")
    if parent:
        show_output(tracker, parent, manifest, folder, run_id=run_id)
    record_page(tracker, page, run_id=run_id, parent=parent)
    return missing


def log_missing(
    tracker: Tracker, run_id: str, curves: Mapping[str, Sequence[tuple[int, float]]]
) -> int:
    """Log those points of curves whose step a run lacks, and return how many they were."""
    now = int(time.time() * 1000)
    there = {name: dict(tracker.curve(run_id, name)) for name in curves}
    missing = [
        Point(name=name, value=value, step=step, time_ms=now)
        for name, points in curves.items()
        for step, value in points
        if step not in there[name]
    ]
    tracker.log_points(run_id, missing)
    return len(missing)


def record_samples(
    tracker: Tracker, stage: str, folder: Path, *, run_id: str = "", parent: str = ""
) -> None:
    """Show completions as a table: a row a prompt, models side by side; nothing if there are none.

    Texts come first, those of the last model before the others': MLflow's table of several runs,
    beside their charts, compares the second column prompt by prompt. Therefore the pipeline's run
    shows an evaluation's completions too.
    """
    if not (folder / SAMPLES).exists():
        return
    rows = read_rows(folder / SAMPLES)
    if rows and "model" in rows[0]:
        rows = side_by_side(rows)
    texts = [name for name, one in rows[0].items() if isinstance(one, str)] if rows else []
    table = [
        {name: row[name] for name in (*texts[:1], *texts[:0:-1])}
        | {name: round(one, DIGITS) for name, one in row.items() if isinstance(one, float)}
        | {name: one for name, one in row.items() if not (name in texts or isinstance(one, float))}
        for row in rows
    ]
    for each in (run_id, parent if entry(stage).final else ""):
        if each:
            tracker.log_table(each, table, "samples.json")


def shown_numbers(manifest: Manifest, folder: Path) -> dict[str, float]:
    """The single numbers that a stage's run shows: few, for MLflow draws a chart of each.

    None of a curve: at step 0 it would stand at its beginning.
    """
    curves = read_history(folder)
    shown = entry(manifest.stage).shown(manifest.metrics)
    final = {name: value for name, value in shown.items() if name not in curves}
    peak = {f"{GROUP}peak_memory_gib": manifest.peak_gib} if manifest.peak_gib else {}
    return final | manifest_cost(manifest, folder) | peak


class About(BaseModel, frozen=True):
    """What a page says of itself; written last, so that a page with it is whole."""

    title: str
    pictures: list[str]
    on_pipeline: bool
    tags: dict[str, str]


def read_about(folder: Path) -> About | None:
    """What a page says of itself; None where there is none, or a damaged one."""
    try:
        return About.model_validate_json((folder / ABOUT).read_bytes())
    except (OSError, ValidationError):
        return None


def page_folder(root: Path, stage: str, digest: str) -> Path:
    """Where the page of a result lies, or would."""
    return root / "reports" / stage / digest


def record_page(tracker: Tracker, folder: Path, *, run_id: str = "", parent: str = "") -> None:
    """Put a page, if there is one, on the run of its stage and, if it belongs there, on its parent.

    Args:
        run_id: The stage's run; empty for one that shows the page already.
        parent: The pipeline's run; empty where none is known.
    """
    page = read_about(folder)
    if page is None or not (folder / REPORT).is_file():
        return
    if run_id:
        tracker.log_folder(run_id, folder, "report")
    if parent and page.on_pipeline:
        text = (folder / REPORT).read_text(encoding="utf-8", errors="replace")
        if page.pictures:
            tracker.log_folder(parent, folder / PLOTS, PLOTS)
        note = tracker.tags(parent).get(NOTE, "")
        tracker.log(parent, tags={**page.tags, **note_tags(note, text)})
