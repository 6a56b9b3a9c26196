"""Which rows a stage can learn from, and the quality report: read, kept, dropped and why.

Stands between `formats` and `split`. Nothing is repaired beyond `clean_text`; a row is kept or is
dropped under one reason, and every reason is counted in the report, which is logged and stored
beside the datasets.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from models.errors import DataError
from models.files import listed, shown
from tasks.data.config import DataConfig
from tasks.data.formats import (
    AS_IT_IS,
    UNKNOWN_COLUMNS,
    Collection,
    Row,
    RowProblem,
    accepted_columns,
    convert_row,
)
from tasks.data.report import CollectionReport, Lengths
from tasks.data.split import Sides, content_key

DUPLICATE = "duplicate"
BOTH_DIRECTIONS = "the pair stands in both directions"
HELD_OUT = "held-out row in training"


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts what happens to the rows of one collection, from every file it is read from."""

    labels: list[str] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cleaned: int = 0
    placeholders: int = 0

    def drop(self, reason: str, rows: int) -> None:
        """Count dropped rows; a reason without rows is not listed."""
        if rows:
            self.dropped[reason] += rows


def size(value: object) -> int:
    """Count the characters of a text or of all messages."""
    if isinstance(value, list):
        return sum(len(message["content"]) for message in value)
    return len(str(value))


def _stripped(value: object) -> str:
    """The text of a value, or of its last message, without spaces at the ends."""
    return (value[-1]["content"] if isinstance(value, list) else str(value)).strip()


def check_row(row: Row, max_prompt_characters: int = 0) -> None:
    """Judge the content of one canonical row.

    Args:
        row: A canonical row of any collection.
        max_prompt_characters: 0 is no bound.

    Raises:
        RowProblem: With the reason, if a text is empty (white space counts as empty), chosen
            equals rejected up to white space at the ends, or the prompt is too long.
    """
    for column in ("text", "prompt", "completion", "chosen", "rejected"):
        if column in row and not _stripped(row[column]):
            raise RowProblem(f"empty {column}")
    if "chosen" in row and _stripped(row["chosen"]) == _stripped(row["rejected"]):
        raise RowProblem("chosen equal to rejected")
    if max_prompt_characters and size(row.get("prompt", "")) > max_prompt_characters:
        raise RowProblem(f"prompt longer than {max_prompt_characters} characters")


def admit_rows(
    collection: Collection,
    rows: Sequence[Row],
    *,
    label: str,
    tally: Tally,
    config: DataConfig = AS_IT_IS,
) -> list[Row]:
    """Convert, clean and judge rows as they were read.

    Args:
        collection: What the rows are to become.
        rows: Rows of any accepted shape.
        label: File or hub id, for messages and the report.
        tally: Counts rows read, dropped and cleaned.
        config: Its options count.

    Returns:
        The usable rows in canonical form, in order.

    Raises:
        DataError: If there are rows, but none fits an accepted set of columns or can be used.
    """
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            several = convert_row(collection, row, config)
        except RowProblem as problem:
            dropped[str(problem)] += 1
            continue
        for converted in several:
            cleaned = clean_row(converted)
            try:
                check_row(cleaned, config.max_prompt_characters)
            except RowProblem as problem:
                dropped[str(problem)] += 1
                continue
            tally.cleaned += cleaned != converted
            tally.placeholders += has_placeholder(cleaned)
            kept.append(cleaned)
    tally.labels.append(label)
    tally.read += len(rows)
    tally.dropped += dropped
    if rows and not kept:
        _refuse(collection, rows, label, dropped)
    return kept


def _refuse(
    collection: Collection, rows: Sequence[Row], label: str, dropped: Counter[str]
) -> NoReturn:
    if dropped[UNKNOWN_COLUMNS] == len(rows):
        got = sorted({str(column) for row in rows for column in row})
        raise DataError(
            f"{shown(label)}: wrong columns for {collection}; got {listed(got) or 'none'}; wanted "
            f"{accepted_columns(collection)}; rename the columns"
        )
    reasons = "; ".join(f"{reason}: {count}" for reason, count in dropped.most_common())
    raise DataError(
        f"{shown(label)}: no row can be used for {collection}; got {len(rows)} rows ({reasons}); "
        "wanted at least one usable row; repair the file"
    )


def drop_duplicates(collection: Collection, rows: list[Row], tally: Tally) -> list[Row]:
    """Keep the first of equal rows; of a pair that stands in both directions keep neither.

    Such a pair is a tie: its two rows cancel out, and which came first means nothing.
    """
    first: dict[str, Row] = {}
    ties: set[str] = set()
    for row in rows:
        key = content_key(collection, row)
        known = first.setdefault(key, row)
        if collection == "preferences" and known["chosen"] != row["chosen"]:
            ties.add(key)
    for key in ties:
        del first[key]
    tally.drop(BOTH_DIRECTIONS, 2 * len(ties))
    tally.drop(DUPLICATE, len(rows) - len(first) - 2 * len(ties))
    return list(first.values())


_SUSPECT = re.compile("[\x1b\x85\ud800-\udfff]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\x1b")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")


def clean_text(text: str) -> str:
    """Remove ANSI escapes, stray \\x85 and lone surrogates."""
    if not _SUSPECT.search(text):
        return text
    return _SURROGATE.sub("\ufffd", _ANSI.sub("", text).replace("\x85", " "))


def clean_row(row: Row) -> Row:
    """Clean all texts of a canonical row, those in messages included."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, list):
            return [message | {"content": clean_text(message["content"])} for message in value]
        return value

    return {column: clean(value) for column, value in row.items()}


def has_placeholder(row: Row) -> bool:
    """Whether a text of the row still holds a template's ``{{name}}``."""
    values = [value for value in row.values() if isinstance(value, str)]
    messages = [one for value in row.values() if isinstance(value, list) for one in value]
    texts = [*values, *(message["content"] for message in messages)]
    return any(_PLACEHOLDER.search(text) for text in texts)


def measure_lengths(rows: Sequence[Row]) -> dict[str, Lengths]:
    """Characters of every text column of canonical rows."""
    columns = [column for column in rows[0] if column != "margin"] if rows else []
    lengths = {}
    for column in columns:
        sizes = np.array([size(row[column]) for row in rows])
        median, p95 = np.percentile(sizes, (50, 95))
        lengths[column] = Lengths(median=float(median), p95=float(p95), maximum=int(sizes.max()))
    return lengths


def report_collection(name: Collection, tally: Tally, sides: Sides) -> CollectionReport:
    """The report of one collection."""
    return CollectionReport(
        name=name,
        sources=tuple(tally.labels),
        read=tally.read,
        train=len(sides.train),
        heldout=len(sides.heldout),
        dropped=dict(tally.dropped.most_common()),
        cleaned=tally.cleaned,
        placeholders=tally.placeholders,
        lengths=measure_lengths([*sides.train, *sides.heldout]),
    )
