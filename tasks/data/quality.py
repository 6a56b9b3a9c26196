"""Which rows a stage can learn from: converted, cleaned, judged and counted, one after the other.

Stands between `formats` and `split`. Nothing is repaired beyond `cleaning`; a row is kept or is
dropped under one reason, and every reason is counted, with examples, in the `report`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from unicodedata import normalize

from models.errors import DataError
from models.files import shown
from tasks.data.cleaning import clean_row, findings
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
from tasks.data.report import CONTROLS, ENTITIES, MOJIBAKE, PLACEHOLDER, REMOVED
from tasks.data.tally import FileTally, Tally

_MOST_COLUMNS = 1000
"""Names of columns that are kept: what has more has keys where it should have values."""


def size(value: object) -> int:
    """Count the characters of a text or of all messages."""
    if isinstance(value, list):
        return sum(len(message["content"]) for message in value)
    return len(str(value))


_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\xad"))
"""Characters without width that mean nothing; joiners, which do, are not among them."""


def _visible(value: object) -> str:
    """The text of a value, or of its last message, without outer spaces and what is invisible."""
    text: str = value[-1]["content"] if isinstance(value, list) else str(value)
    return text.strip() if text.isascii() else text.translate(_INVISIBLE).strip()


def _alike(one: str, other: str) -> bool:
    """Whether texts look the same but for white space."""
    if one.split() == other.split():
        return True
    if one.isascii() or other.isascii():
        return False
    return normalize("NFC", one).split() == normalize("NFC", other).split()


def check_row(row: Row, max_prompt_characters: int = 0) -> None:
    """Judge the content of one canonical row.

    Args:
        row: A canonical row of any collection.
        max_prompt_characters: 0 is no bound.

    Raises:
        RowProblem: With the reason, if a text is empty (white space counts as empty), chosen
            equals rejected up to white space and what is invisible, or the prompt is too long.
    """
    for column in ("text", "prompt", "completion", "chosen", "rejected"):
        if column in row and not _visible(row[column]):
            raise RowProblem(f"empty {column}")
    if "chosen" in row:
        chosen, rejected = _visible(row["chosen"]), _visible(row["rejected"])
        if chosen == rejected:
            raise RowProblem("chosen equal to rejected")
        if _alike(chosen, rejected):
            raise RowProblem("chosen equal to rejected but for white space")
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
            f"({reasons}); wanted at least one usable row; repair the file or name another one"
        )
    if file.unreadable > config.unreadable_share * file.read:
        raise DataError(
            f"{shown(file.label)}: {file.unreadable:,} of {file.read:,} rows cannot be read for "
            f"{collection} ({reasons}), more than a share of {config.unreadable_share:g}; the file "
            "is probably not what it is taken for: repair it, name its format in data.format, or "
            "raise data.unreadable_share to train on the rest"
        )


def _note_findings(tally: Tally, file: FileTally, number: int, before: Row, row: Row) -> None:
    for finding, place in findings(before, row):
        counter = _COUNTERS[finding]
        setattr(tally, counter, getattr(tally, counter) + 1)
        tally.show(finding, file, number, place)


_COUNTERS = {
    REMOVED: "cleaned",
    PLACEHOLDER: "placeholders",
    MOJIBAKE: "mojibake",
    CONTROLS: "controls",
    ENTITIES: "entities",
}
"""The field of a tally that counts a finding."""
