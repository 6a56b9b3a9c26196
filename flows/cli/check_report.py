"""The quality report of `quartet check` in the terminal: what was recognised, found and counted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flows.cli.terminal import add_row, as_text, wide_console
from tasks.escaping import in_one_line

if TYPE_CHECKING:
    from tasks.data.inspection.records import CollectionInspection, Finding, Sizes
    from tasks.data.report import CollectionReport, Lengths, PreparationReport, SourceReport
    from tasks.preview.given import GivenFile

STYLES = {"wrong": "bold red", "look": "yellow", "fine": "green"}
EXAMPLE, NOTED = "bright_black", "yellow"

LANGUAGES = 4
"""Of one collection that are named."""


def print_sources(given: "Sequence[GivenFile]", report: "PreparationReport | None" = None) -> None:
    """Print what each file was recognised as, and once they were read what was found in it."""
    console = _console()
    collections = report.collections if report is not None else ()
    read = {
        (one.name, file.source or file.label, file.label): file
        for one in collections
        for file in one.files
    }
    for source in given:
        held_out = ", held out" if source.heldout else ""
        named = source.source.endswith(source.label) or source.label.startswith(source.source)
        name = source.source if named else f"{source.label} of {source.source}"
        title = as_text(f"{name}: ", "bold")
        console.print(title + as_text(f"{source.collection}{held_out}, by {source.why}"))
        for name, value in (("is", source.format), ("reads", ", ".join(source.columns))):
            if value:
                console.print(as_text(f"  {name:8} {value}"))
        file = read.get((source.collection, source.source, source.label))
        if file is not None:
            _print_file(console, file)


def print_findings(findings: "Iterable[Finding]") -> None:
    """Print what is wrong, what is worth a look and what is fine, each with remedy and example."""
    console = _console()
    for finding in findings:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        line = as_text(f"{finding.severity:5} ", STYLES[finding.severity])
        console.print(line + as_text(f"{finding.text}{remedy}"))
        if finding.example:
            console.print(as_text(f"      such as: {in_one_line(finding.example)}", EXAMPLE))


def print_counts(report: "PreparationReport") -> None:
    """Print how many rows there are of each collection, what was dropped, and how long they are."""
    console = _console()
    present = [one for one in report.collections if one.read]
    inspected = {str(one.name): one for one in report.inspection.collections}
    console.print(_counts(present, inspected))
    for each in present:
        for reason, rows in each.dropped.items():
            console.print(as_text(f"{each.name}: {rows:,} dropped, {reason}"))
            for example in each.examples.get(reason, ())[:1]:
                where = f"{example.file}, row {example.row}"
                console.print(as_text(f"      {where}: {in_one_line(example.text)}", EXAMPLE))
    console.print(_lengths(present, inspected))


def _console() -> Console:
    console = wide_console()
    console.soft_wrap = True
    return console


def _print_file(console: Console, file: "SourceReport") -> None:
    if len(file.formats) > 1:
        shares = ", ".join(f"{name}: {rows:,}" for name, rows in file.formats.items())
        console.print(as_text(f"  formats  {shares}", NOTED))
    if file.unread:
        columns = ", ".join(f"{name} ({rows:,} rows)" for name, rows in file.unread.items())
        console.print(as_text(f"  ignores  {columns}", NOTED))
    for note in file.notes:
        console.print(as_text(f"  assumes  {note}", NOTED))
    console.print(as_text(f"  rows     {file.read:,} read, {file.kept:,} usable"))


def _counts(
    collections: "Iterable[CollectionReport]", inspected: "Mapping[str, CollectionInspection]"
) -> Table:
    table = _table("rows", "read", "train", "held out", "dropped", "languages")
    for each in collections:
        dropped = sum(each.dropped.values())
        found = inspected.get(each.name)
        shares = sorted(found.languages.shares.items(), key=lambda one: -one[1]) if found else []
        languages = ", ".join(f"{name} {share:.0%}" for name, share in shares[:LANGUAGES])
        counts = (each.read, each.train, each.heldout, dropped)
        add_row(table, each.name, *(f"{count:,}" for count in counts), languages)
    return table


def _lengths(
    collections: "Iterable[CollectionReport]", inspected: "Mapping[str, CollectionInspection]"
) -> Table:
    """Characters, words and, with a tokenizer, tokens: median, 95th percentile, longest."""
    known = any(one.tokens for found in inspected.values() for one in found.columns.values())
    counted = ("tokens", "tokens in all") if known else ()
    table = _table("median, 95%, longest", "", "characters", "words", *counted)
    for each in collections:
        for column, lengths in each.lengths.items():
            found = inspected[each.name].columns.get(column) if each.name in inspected else None
            words, tokens = (found.words, found.tokens) if found else (None, None)
            cells = (_sizes(tokens), f"{tokens.total:,}" if tokens else "")[: len(counted)]
            add_row(table, each.name, column, _sizes(lengths), _sizes(words), *cells)
    return table


def _sizes(sizes: "Lengths | Sizes | None") -> str:
    return f"{sizes.median:,.0f}  {sizes.p95:,.0f}  {sizes.maximum:,}" if sizes else ""


def _table(*header: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in header:
        is_text = name in ("", "languages", header[0])
        table.add_column(name, justify="left" if is_text else "right")
    return table
