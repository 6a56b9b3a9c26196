"""The data's page: what was read, what was kept, what was dropped and why."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.reports.style import cell, table
from tasks.run.spec import Page, Result

CELL = 120
"""Characters of the names of files in a cell."""


def data_page(result: Result, _plots: Path) -> Page:
    """Show the quality report of prepared datasets."""
    report = json.loads((result.folder / "quality.json").read_text(encoding="utf-8"))
    return Page(title="What was kept, and why the rest was not", markdown=_quality_text(report))


def _quality_text(report: dict[str, Any]) -> str:
    form = "messages" if report["conversational"] else "plain texts"
    each = report["collections"]
    parts = [
        "# Data",
        f"Source: {report['source']}. Prompts and completions are {form}.",
        _table(
            ("collection", "from", "read", "train", "held out", "dropped"),
            (
                (c["name"], cell(", ".join(c["sources"]) or "nothing", CELL), c["read"],
                 c["train"], c["heldout"], sum(c["dropped"].values()))
                for c in each
            ),
        ),
        "## Dropped, by reason",
        _table(
            ("collection", "reason", "rows"),
            ((c["name"], cell(why, CELL), n) for c in each for why, n in c["dropped"].items()),
        ),
        "## Lengths in characters",
        _table(
            ("collection", "column", "median", "95%", "longest"),
            (
                (c["name"], column, f"{n['median']:.0f}", f"{n['p95']:.0f}", n["maximum"])
                for c in each
                for column, n in c["lengths"].items()
            ),
        ),
        "## Notes",
        "\n".join(f"- {note}" for note in _notes(report)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _notes(report: dict[str, Any]) -> list[str]:
    notes = [f"{rows} {what}" for what, rows in report["overlaps"].items() if rows]
    for each in report["collections"]:
        if each["cleaned"]:
            notes.append(f"{each['cleaned']} {each['name']} rows freed of control characters")
        if each["placeholders"]:
            notes.append(f"{each['placeholders']} {each['name']} rows hold a {{{{placeholder}}}}")
    if report["contrasts"]:
        notes.append(f"{report['contrasts']} contrasts: pairs that differ in one respect")
    return notes or ["none"]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    rows = list(rows)
    return table(header, rows, text_columns=2) if rows else "none"
