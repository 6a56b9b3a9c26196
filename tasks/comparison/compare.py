"""Compare: which of several pipeline runs is best, why, and how sure that is, as one report.

It trains and samples nothing: everything comes from what the runs recorded and published.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from models.errors import ParameterError
from tasks.comparison.compare_curves import plot_curves
from tasks.comparison.compare_tables import Contents, compile_contents
from tasks.comparison.frontier import plot_frontier
from tasks.comparison.page import to_html, to_markdown
from tasks.comparison.plots import plot_spread, plot_win_rates
from tasks.comparison.runs import RunRecord, find_runs, gather
from tasks.results.store import Store
from tasks.run.reporting import NOTE_CHARACTERS, show_markdown
from tasks.run.stage_task import stage_task
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker, tolerated
from tasks.tracking.notes import Status

REPORT = "report.html"


class ComparisonResult(BaseModel):
    """What a comparison came to.

    Attributes:
        name: Of the comparison and of its MLflow run.
        folder: Where the report lies.
        run_id: The MLflow run that has it too; empty if MLflow did not take it.
        best: MLflow id of the best run; empty where there is no winner.
        sentence: Which is best, and why.
        runs: MLflow ids of the compared runs.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    folder: Path
    run_id: str
    best: str
    sentence: str
    runs: list[str]


@stage_task("compare")
def compare_runs(runs: Sequence[str], out: Path | None = None) -> ComparisonResult:
    """Compare pipeline runs, write the report, log it and show it.

    Args:
        runs: Names, ids or beginnings of ids of their MLflow parent runs.
        out: The report's folder; one of its own in the home folder by default.

    Raises:
        ParameterError: A name that no run or more than one goes by, or `out` is no folder.
        StoreError: A published evaluation is damaged.
        QuartetError: MLflow does not answer.
    """
    settings = load_settings()
    tracker, store = Tracker(settings), Store(settings.store)
    tracker.check()
    records = [gather(tracker, store, parent) for parent in find_runs(tracker, runs)]
    contents = compile_contents(records)
    name = f"compare-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = _make_folder(settings, name, out)
    pictures = _draw(records, contents, folder)
    title = f"Comparison of {len(records)} runs"
    page = to_html(contents, pictures, title=title)
    (folder / REPORT).write_text(page, encoding="utf-8")
    text = to_markdown(contents, {}, title=title)
    (folder / "report.md").write_text(text, encoding="utf-8")
    best = "" if contents.best.index is None else records[contents.best.index].run_id
    files = [folder / REPORT, folder / "report.md", *pictures.values()]
    run_id = _record(tracker, name, records, best, text, files)
    shown = to_markdown(contents, pictures, title=title)
    show_markdown("comparison", shown, contents.best.sentence)
    return ComparisonResult(
        name=name,
        folder=folder,
        run_id=run_id,
        best=best,
        sentence=contents.best.sentence,
        runs=[record.run_id for record in records],
    )


def _make_folder(settings: Settings, name: str, out: Path | None) -> Path:
    folder = out if out is not None else settings.root / "comparisons" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            f"--out: the report's folder {folder} cannot be made ({error}); name another"
        ) from error
    return folder.absolute()


def _draw(records: Sequence[RunRecord], contents: Contents, folder: Path) -> dict[str, Path]:
    """Draw every picture for which there is something to draw."""
    labels, rates = contents.labels, contents.rates
    before = ("pretrain", "sft", "reward", "judge")
    drawn = {
        "frontier": plot_frontier(records, labels, folder / "frontier.png"),
        "win_rates": plot_win_rates(records, labels, rates, folder / "win_rates.png"),
        "spread": plot_spread(records, labels, folder / "spread.png"),
        "ppo": plot_curves(records, labels, ("ppo",), folder / "ppo.png"),
        "stages": plot_curves(records, labels, before, folder / "stages.png"),
    }
    return {name: folder / f"{name}.png" for name, worked in drawn.items() if worked}


def _record(
    tracker: Tracker,
    name: str,
    records: Sequence[RunRecord],
    best: str,
    text: str,
    files: Sequence[Path],
) -> str:
    """Log the report as a run of its own that names the compared ones, and return its id."""
    run_id = ""
    tags = {
        "quartet.kind": "comparison",
        "quartet.compared": ",".join(record.run_id for record in records),
        "quartet.best": best or "none",
        "mlflow.note.content": text[:NOTE_CHARACTERS],
        **{f"quartet.compared.{record.run_id}": record.name for record in records},
    }
    names = {f"run.{index}": record.name for index, record in enumerate(records, start=1)}
    with tolerated("the comparison's report"):
        run_id = tracker.start_run(name, parameters=names, tags=tags)
        status: Status = "FAILED"
        try:
            for file in files:
                tracker.client.log_artifact(run_id, str(file), artifact_path="comparison")
            status = "FINISHED"
        finally:
            tracker.finish(run_id, status)
    return run_id
