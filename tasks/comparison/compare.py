"""Compare: which of several pipeline runs is best, why, and how sure that is, as one report.

It trains and samples nothing: everything comes from what the runs recorded and published. The
report is one HTML file that needs nothing beside it, and Markdown for Prefect. Every text comes
from runs, prompts and models that strangers may have written: all of it is escaped.
"""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from models.errors import ParameterError
from tasks.catalogue import CATALOGUE
from tasks.comparison.finding import find_runs
from tasks.comparison.frontier import plot_frontier
from tasks.comparison.plots import plot_curves, plot_spread, plot_win_rates
from tasks.comparison.runs import RunRecord, gather, letter
from tasks.comparison.statistics import keep_whole
from tasks.comparison.tables import Contents, Table, compile_contents
from tasks.escaping import for_markdown
from tasks.reports.style import RUN_COLOURS, cell
from tasks.results.store import Store
from tasks.run.reporting import show_markdown
from tasks.run.spec import picture_data
from tasks.run.stage_task import stage_task
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import Status, tolerated
from tasks.tracking.recording import note_tags


class ComparisonResult(BaseModel):
    """The outcome of a comparison.

    Attributes:
        run_id: The MLflow run that has the report too; empty if MLflow did not take it.
        best: MLflow id of the best run; empty where there is no winner.
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
def compare_runs(
    runs: Sequence[str], out: Path | None = None, *, name: str = "", note: str = ""
) -> ComparisonResult:
    """Compare pipeline runs, write the report, log it and show it.

    Args:
        runs: Names, ids or beginnings of ids of their MLflow parent runs.
        out: The report's folder; one of its own in the home folder by default.
        name: Of the comparison; empty = its time.
        note: What a person wrote about it.

    Raises:
        ParameterError: A name of no run or of several, or `out` is no folder.
        StoreError: A published evaluation is damaged.
        QuartetError: MLflow does not answer.
    """
    settings = load_settings()
    tracker, store = Tracker(settings), Store(settings.store)
    tracker.check()
    records = [gather(tracker, store, parent) for parent in find_runs(tracker, runs)]
    contents = compile_contents(records)
    moment = f"compare-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    name, folder = name or moment, _make_folder(settings, moment, out)
    pictures = _draw(records, contents, folder)
    title = f"Comparison of {len(records)} runs"
    text = to_markdown(contents, {}, title=title)
    written = {"report.html": _to_html(contents, pictures, title=title), "report.md": text}
    for file, content in written.items():
        (folder / file).write_text(content, encoding="utf-8")
    sentence, best = contents.best.sentence, ""
    if contents.best.index is not None:
        best = records[contents.best.index].run_id
    files = [*(folder / file for file in written), *pictures.values()]
    run_id = _record(tracker, name, records, best, note_tags(note, text), files)
    show_markdown(
        "comparison", to_markdown(contents, pictures, title=title), for_markdown(sentence)
    )
    return ComparisonResult(
        name=name, folder=folder, run_id=run_id, best=best, sentence=sentence,
        runs=[record.run_id for record in records],
    )  # fmt: skip


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
    labels = contents.labels
    before = [stage for stage in CATALOGUE if stage != "ppo"]
    paths = {name: folder / f"{name}.png" for name in SECTIONS}
    drawn = {
        "frontier": plot_frontier(records, labels, paths["frontier"]),
        "win_rates": plot_win_rates(labels, contents.rates, paths["win_rates"]),
        "spread": plot_spread(records, labels, paths["spread"]),
        "ppo": plot_curves(records, labels, ["ppo"], paths["ppo"]),
        "stages": plot_curves(records, labels, before, paths["stages"]),
    }
    return {name: path for name, path in paths.items() if drawn[name]}


def _record(
    tracker: Tracker, name: str, records: Sequence[RunRecord], best: str,
    notes: Mapping[str, str], files: Sequence[Path],
) -> str:  # fmt: skip
    run_id = ""
    tags = {
        "quartet.kind": "comparison",
        "quartet.compared": ",".join(record.run_id for record in records),
        "quartet.best": best or "none",
        **notes,
        **{f"quartet.compared.{record.run_id}": record.name for record in records},
    }
    names = {f"run.{index}": record.name for index, record in enumerate(records, start=1)}
    with tolerated("the comparison's report"):
        run_id = tracker.start_run(name, parameters=names, tags=tags)
        status: Status = "FAILED"
        try:
            for file in files:
                tracker.log_file(run_id, file, "comparison")
            status = "FINISHED"
        finally:
            tracker.finish(run_id, status)
    return run_id


CELL = 160
"""Characters of a Markdown table's cell."""

SHOWN_IN_MARKDOWN = 5
"""Prompts of the Markdown, the short form."""

SECTIONS = {
    "frontier": (
        "Score against distance",
        "Each small dot is a PPO iteration; the big marks are the final policies on held-out "
        "prompts. A policy that climbs on the left and falls on the right has learned to please "
        "its reward model, not the judge: over-optimisation.",
    ),
    "win_rates": (
        "Win rates",
        "One completion of each model per prompt, the same prompts for both sides; a tie counts "
        "half. Intervals resample prompts. Where an interval crosses 50%, nothing tells which is "
        "better. Hollow: what is left where both completions are as long and end alike.",
    ),
    "spread": (
        "Scores and lengths",
        "One completion per held-out prompt. A narrow peak at the highest scores with little "
        "variety, or lengths far from SFT's, are signs of a hacked reward.",
    ),
    "ppo": ("Learning curves: PPO", ""),
    "stages": ("Learning curves: the stages before", ""),
}
"""Headline and reading help of each picture, in the report's order."""


def _to_html(contents: Contents, pictures: Mapping[str, Path], *, title: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"whole": keep_whole, "address": picture_data}
    colours = {letter(index): colour for index, colour in enumerate(RUN_COLOURS)}
    return environment.get_template("page.html.j2").render(
        contents=contents, pictures=pictures, sections=SECTIONS, colours=colours, title=title
    )


def to_markdown(contents: Contents, pictures: Mapping[str, Path], *, title: str) -> str:
    """Write the report's short form as Markdown; pictures only if some are given."""
    lines = [f"# {for_markdown(title)}", ""]
    lines += [f"- **{for_markdown(label)}**" for label in contents.labels]
    lines += ["", f"**{for_markdown(contents.best.sentence)}**", "", *_rows(contents.headline), ""]
    lines += [f"Note: {for_markdown(note)}\n" for note in contents.notes]
    for who, sentences in contents.reasons:
        lines += [
            f"{who} was not accepted:",
            "",
            *(f"- {for_markdown(one)}" for one in sentences),
            "",
        ]
    lines += ["## Parameters that differ", ""]
    lines += _rows(contents.parameters) if contents.parameters.rows else ["None."]
    lines += ["", f"{contents.parameters_equal} parameters are equal.", ""]
    if not pictures:  # the picture says it otherwise
        lines += [for_markdown(contents.finding), ""]
    for name, (headline, _) in SECTIONS.items():
        if name in pictures:
            lines += [f"## {headline}", "", f"![{headline}]({picture_data(pictures[name])})", ""]
        if name == "win_rates":
            lines += [] if name in pictures else [f"## {headline}", ""]
            lines += [*_rows(contents.wins), ""]
    lines += ["## The same prompts", ""]
    for prompt, completions in contents.samples[:SHOWN_IN_MARKDOWN]:
        lines += [f"**{cell(prompt, CELL)}**", "", *_rows(completions), ""]
    return "\n".join(lines)


def _rows(table: Table) -> list[str]:
    lines = [[cell(text, CELL) for text in line] for line in (table.header, *table.rows)]
    lines.insert(1, ["---"] * len(table.header))
    return ["| " + " | ".join(line) + " |" for line in lines]
