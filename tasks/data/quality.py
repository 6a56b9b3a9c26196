"""Which rows a stage can learn from: converted, cleaned, judged and counted, one after the other.

Stands between `formats` and `split`. Nothing is repaired beyond `clean_text`; a row is kept or is
dropped under one reason, and every reason is counted, with examples, in the `report`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from models.errors import DataError
from models.files import shown
from tasks.data.config import DataConfig
from tasks.data.formats import (
    AS_IT_IS,
    UNKNOWN_COLUMNS,
    WRONG_KIND,
    Collection,
    LeftOut,
    Row,
    RowProblem,
    convert_row,
    describe_unknown,
    gather,
    recognise,
    unread_columns,
)
from tasks.data.reading.encodings import mojibake
from tasks.data.report import MOJIBAKE, PLACEHOLDER, REMOVED
from tasks.data.tally import FileTally, Tally

_MOST_COLUMNS = 1000
"""Names of columns that are kept: what has more has keys where it should have values."""


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
    rows: Iterable[Row],
    *,
    label: str,
    tally: Tally,
    config: DataConfig = AS_IT_IS,
) -> list[Row]:
    """Convert, clean and judge rows as they were read, all at once; see `admit`."""
    admitted = admit(collection, rows, file=FileTally(label=label), tally=tally, config=config)
    return [row for _, several in admitted for row in several]


def admit(
    collection: Collection,
    rows: Iterable[Row],
    *,
    file: FileTally,
    tally: Tally,
    config: DataConfig = AS_IT_IS,
) -> Iterator[tuple[int, list[Row]]]:
    """Convert, clean and judge rows as they are read.

    Args:
        collection: What the rows are to become.
        rows: Rows of any accepted shape.
        file: Where they are from, for messages and the report.
        tally: Counts rows read, dropped and cleaned.
        config: Its options count.

    Yields:
        A row's number from 1, and the canonical rows that it gives, if any.

    Raises:
        DataError: At the end, if there were rows, but none can be used, or if too many could not
            be converted.
    """
    tally.labels.append(file.label)
    tally.files.append(file)
    columns: dict[str, None] = {}
    notes: Counter[str] = Counter()
    for number, raw in enumerate(gather(rows, collection), 1):
        file.read += 1
        tally.read += 1
        left: Counter[str] = Counter()
        try:
            several = convert_row(collection, raw, config, dropped=left, notes=notes)
        except RowProblem as problem:
            file.unreadable += not isinstance(problem, LeftOut)
            if str(problem) == UNKNOWN_COLUMNS and len(columns) < _MOST_COLUMNS:
                columns |= dict.fromkeys(raw)
            _drop(tally, file, str(problem), number, raw)
            continue
        finally:
            _recognise(collection, file, raw, config)
        kept = list(_judged(several, file, tally, number, raw, config))
        for reason, count in left.items():
            _drop(tally, file, reason, number, raw, count)
        tally.expanded += len(several) + left.total() - 1
        file.kept += len(kept)
        if kept:
            yield number, kept
    changes = [f"{what}: {count:,} rows" for what, count in notes.most_common()]
    file.notes = (*file.notes, *getattr(rows, "notes", ()), *changes)
    _refuse_unusable(collection, file, columns, config)


def _judged(
    rows: Iterable[Row], file: FileTally, tally: Tally, number: int, raw: Row, config: DataConfig
) -> Iterator[Row]:
    for row in rows:
        cleaned = clean_row(row)
        try:
            check_row(cleaned, config.max_prompt_characters)
        except RowProblem as problem:
            _drop(tally, file, str(problem), number, raw)
            continue
        _note_findings(tally, file, number, row, cleaned)
        yield cleaned


def _recognise(collection: Collection, file: FileTally, raw: Row, config: DataConfig) -> None:
    found = recognise(raw, config)
    if found is not None:
        file.formats[found.name] += 1
        if len(file.unread) < _MOST_COLUMNS:
            file.unread.update(map(str, unread_columns(collection, raw, config)))


def _drop(
    tally: Tally, file: FileTally, reason: str, number: int, raw: Row, count: int = 1
) -> None:
    tally.drop(reason, count)
    file.dropped[reason] += count
    tally.show(reason, file, number, raw)


def _refuse_unusable(
    collection: Collection, file: FileTally, columns: Iterable[str], config: DataConfig
) -> None:
    """Stop where a file is not what it is taken for; a few bad rows are dropped and counted."""
    if not file.read:
        return
    if file.dropped[UNKNOWN_COLUMNS] == file.read:
        raise DataError(
            f"{shown(file.label)}: wrong columns for {collection}; "
            f"{describe_unknown(collection, sorted(map(str, columns)))}"
        )
    wrong_kind = next(iter(file.dropped), "")
    if file.dropped[wrong_kind] == file.read and wrong_kind.startswith(WRONG_KIND):
        raise DataError(f"{shown(file.label)}: {wrong_kind}")
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in file.dropped.most_common())
    if not file.kept:
        raise DataError(
            f"{shown(file.label)}: no row can be used for {collection}; got {file.read:,} rows "
            f"({reasons}); wanted at least one usable row; repair the file"
        )
    if file.unreadable > config.unreadable_share * file.read:
        raise DataError(
            f"{shown(file.label)}: {file.unreadable:,} of {file.read:,} rows cannot be read for "
            f"{collection} ({reasons}), more than a share of {config.unreadable_share:g}; the file "
            "is probably not what it is taken for: repair it, name its format in data.format, or "
            "raise data.unreadable_share to train on the rest"
        )


def _note_findings(tally: Tally, file: FileTally, number: int, before: Row, row: Row) -> None:
    if row != before:
        tally.cleaned += 1
        tally.show(REMOVED, file, number, _around(_SUSPECT, before))
    if has_placeholder(row):
        tally.placeholders += 1
        tally.show(PLACEHOLDER, file, number, _around(_PLACEHOLDER, row))
    garbled = next(filter(None, map(mojibake, _texts(row))), None)
    if garbled is not None:
        tally.mojibake += 1
        tally.show(MOJIBAKE, file, number, garbled)


_SUSPECT = re.compile("[\x1b\x85\ud800-\udfff]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\x1b")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")

_AROUND = 60
"""Characters on each side of what is shown of a text."""


def _is_suspect(text: str) -> bool:
    """Whether `_SUSPECT` finds something, twenty times as fast."""
    if "\x1b" in text or text.isascii():
        return "\x1b" in text
    try:
        return "\x85" in text or not text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return True


def clean_text(text: str) -> str:
    """Remove ANSI escapes, stray \\x85 and lone surrogates."""
    if not _is_suspect(text):
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
    return any("{{" in text and _PLACEHOLDER.search(text) for text in _texts(row))


def _texts(row: Row) -> Iterator[str]:
    for value in row.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (message["content"] for message in value)


def _around(pattern: re.Pattern[str], row: Row) -> str:
    """What stands around the first place where a row's texts match a pattern."""
    for text in _texts(row):
        if found := pattern.search(text):
            return text[max(0, found.start() - _AROUND) : found.end() + _AROUND]
    return ""
