"""The data's page: what is wrong or worth a look, what was read, kept and dropped, and why."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from tasks.data.inspection.findings import judge_data
from tasks.data.inspection.records import Finding, Severity
from tasks.data.report import CollectionReport, PreparationReport
from tasks.reports.data_tables import (
    languages_table,
    leaks_table,
    lengths_table,
    near_duplicates_table,
    preferences_text,
    truncation_table,
)
from tasks.reports.style import cell, table
from tasks.run.spec import Page, Result

CELL = 120
"""Characters of the names of files in a cell."""

_HEADINGS: dict[Severity, str] = {
    "wrong": "Wrong: do not train on this",
    "look": "Worth a look",
    "fine": "Checked, and no trouble found",
}


def data_page(result: Result, plots: Path) -> Page:
    """Show the quality report of prepared datasets, and a picture of their lengths."""
    from tasks.reports.data_plots import plot_lengths

    content = json.loads((result.folder / "quality.json").read_text(encoding="utf-8"))
    report = TypeAdapter(PreparationReport).validate_python(content)
    pictures = []
    if report.inspection.collections:
        pictures.append(plots / "lengths.png")
        plot_lengths(report, pictures[0])
    return Page(
        title="What was kept, and why the rest was not",
        markdown=quality_text(report),
        pictures=pictures,
    )


def quality_text(report: PreparationReport) -> str:
    """The quality report as Markdown."""
    form = "messages" if report.conversational else "plain texts"
    inspection = report.inspection
    parts = [
        "# Data",
        f"Source: {report.source}. Prompts and completions are {form}.",
        *_findings(judge_data(report)),
        "## Rows",
        _table(
            ("collection", "from", "read", "train", "held out", "dropped"),
            (
                (c.name, cell(", ".join(c.sources) or "nothing", CELL), c.read, c.train, c.heldout,
                 sum(c.dropped.values()))
                for c in report.collections
            ),
        ),
        "## Files",
        _table(
            _FILES,
            (row for c in report.collections for row in _files(c)),
            text_columns=3,
            text_last=True,
        ),
        "## Dropped, by reason",
        _table(
            ("collection", "reason", "rows", "example"),
            (
                (c.name, cell(why, CELL), rows, _example(c, why))
                for c in report.collections
                for why, rows in c.dropped.items()
            ),
            text_last=True,
        ),
        "## Lengths",
        lengths_table(report),
        truncation_table(inspection.truncations),
        "## Preferences" if inspection.pairs else "",
        preferences_text(inspection),
        "## Held-out rows in training rows" if inspection.leaks else "",
        leaks_table(inspection.leaks),
        near_duplicates_table(inspection),
        languages_table(inspection),
        "## Notes",
        "\n".join(f"- {note}" for note in _notes(report)),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _findings(found: Sequence[Finding]) -> Iterator[str]:
    for severity, heading in _HEADINGS.items():
        lines = [_finding(one) for one in found if one.severity == severity]
        if lines:
            yield f"## {heading}"
            yield "\n".join(lines)


def _finding(one: Finding) -> str:
    text = cell(one.text, 3 * CELL)
    line = f"- **{text}**" if one.severity == "wrong" else f"- {text}"
    if one.remedy:
        line += f". {one.remedy[0].upper()}{one.remedy[1:]}."
    if one.example:
        line += f" Example: {cell(one.example, CELL)}"
    return line


_FILES = ("collection", "file", "recognised as", "read", "kept", "assumed, unread")


def _files(each: CollectionReport) -> Iterator[Sequence[object]]:
    for one in each.files:
        formats = ", ".join(f"{name} ({rows})" for name, rows in one.formats.items())
        unread = ", ".join(f"{name} ({rows} rows)" for name, rows in one.unread.items())
        notes = "; ".join(
            [*one.notes, *([f"columns that nobody reads: {unread}"] if unread else [])]
        )
        label = f"{one.label}, held out" if one.heldout else one.label
        if one.epochs != 1:
            label += f", {one.epochs:.2g} epochs"
        yield (
            each.name, cell(label, CELL), cell(formats, CELL), one.read, one.kept,
            cell(notes, 3 * CELL),
        )  # fmt: skip


def _example(each: CollectionReport, reason: str) -> str:
    found = each.examples.get(reason, ())
    return cell(f"{found[0].file}, row {found[0].row}: {found[0].text}", 2 * CELL) if found else ""


def _notes(report: PreparationReport) -> list[str]:
    notes = [f"{rows} {what}" for what, rows in report.overlaps.items() if rows]
    for one in report.inspection.collections:
        if one.share < 1:
            notes.append(
                f"of the {one.name} {one.share:.1%} were looked at for all but the counts of rows "
                "and characters, a sample by content: repeats of rows outside of it are not seen"
            )
    if report.inspection.unchecked:
        notes.append(
            f"{report.inspection.unchecked} pairs of texts that are probably alike were too many "
            "to compare word by word: they are judged by their MinHash sketches"
        )
    if report.contrasts:
        notes.append(f"{report.contrasts} contrasts: pairs that differ in one respect")
    return notes or ["none"]


def _table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    text_columns: int = 2,
    text_last: bool = False,
) -> str:
    rows = list(rows)
    if not rows:
        return "none"
    return table(header, rows, text_columns=text_columns, text_last=text_last)
