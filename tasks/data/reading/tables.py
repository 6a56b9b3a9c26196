"""Rows of CSV and TSV: delimiter and quoting are told by the content.

A header is needed, because names decide what a column is. Its letter case and outer spaces do not
count. A cell that says NaN, NULL or None is missing, and a column of lists and objects (messages)
holds them as JSON or as Python writes them.
"""

import ast
import contextlib
import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from models.errors import DataError
from models.files import listed, shorten, shown
from tasks.data.limits import LONGEST_LINE
from tasks.data.reading.json_rows import Row, parse
from tasks.data.reading.lines import MARK, Decoding
from tasks.data.reading.packing import Content

MISSING = frozenset({"nan", "NaN", "NAN", "null", "NULL", "Null", "None", "<NA>", "#N/A", "\\N"})
"""Cells that programs write where there is no value."""

_SAMPLE = 100
"""Rows by which delimiter, quoting and columns of JSON are told."""
_SAMPLE_CHARACTERS = 2**20
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_LONGEST_NAME = 80
_MESSAGE_KEYS = frozenset({"role", "content", "from", "value", "text"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """How cells are written; a backslash escapes quotes and backslashes, or whatever follows."""

    delimiter: str
    quoted: bool = True
    escape: str | None = None
    escapes_all: bool = False

    def reader(self, lines: Iterable[str]) -> Any:
        literal = self.escape is not None and not self.escapes_all
        return csv.reader(
            map(_keep_backslashes, lines) if literal else lines,
            strict=True,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            escapechar=self.escape,
            doublequote=self.escape is None,
        )


def _keep_backslashes(line: str) -> str:
    """Double each backslash that is before neither a quote nor a backslash, as in LaTeX."""
    return re.sub(r'\\(["\\])|\\', lambda found: found[0] if found[1] else "\\\\", line)


def read_table(content: Content, decoding: Decoding, notes: list[str]) -> Iterator[Row]:
    """Read the rows of a table with a header.

    Raises:
        DataError: It has no header, a name in it twice, or a row of another number of cells.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))  # documents are long
    with decoding.open(content, newline="") as text:
        lines = (line.lstrip(MARK) if line[:1] == MARK else line for line in text)
        sample = _sample(lines)
        skipped = 0
        given = re.fullmatch(r"\s*sep=(.)\s*", sample[0]) if sample else None
        if given:
            sample, skipped = sample[1:], 1
        while sample and not sample[0].strip():
            sample, skipped = sample[1:], skipped + 1
        dialect = _Dialect(delimiter=given[1]) if given else _dialect(content, sample)
        usual = "\t" if content.ending == ".tsv" else ","
        if dialect.delimiter != usual and dialect.delimiter in "".join(sample[:1]):
            named = _DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
            notes.append(f"cells are separated by {named}")
        if not dialect.quoted:
            notes.append("quotation marks belong to the cells")
        if dialect.escape:
            notes.append("quotation marks in cells have a backslash")
        yield from _rows(content, itertools.chain(sample, lines), dialect, skipped, notes)


def _sample(lines: Iterator[str]) -> list[str]:
    sample: list[str] = []
    size = 0
    for line in lines:
        sample.append(line)
        size += len(line)
        if len(sample) > _SAMPLE or size > _SAMPLE_CHARACTERS:
            break
    return sample


def _dialect(content: Content, sample: list[str]) -> _Dialect:
    """The way of writing in which the sample's rows have the most cells, all the same number."""
    usual = "\t" if content.ending == ".tsv" else ","
    escaped = any('\\"' in line for line in sample)
    order = [usual, *(one for one in _DELIMITERS if one != usual)]
    ways = [
        way
        for one in order
        for way in (
            _Dialect(delimiter=one),
            _Dialect(delimiter=one, escape="\\"),
            _Dialect(delimiter=one, escape="\\", escapes_all=True),
            _Dialect(delimiter=one, quoted=False),
        )
        if (way.quoted or one == "\t") and (way.escape is None or escaped)
    ]
    best, most = ways[0], 1
    for way in ways:
        widths = _widths(way, sample)
        if len(widths) == 1 and (width := widths.pop()) > most:
            best, most = way, width
    if most == 1:
        # Texts under one name, or a broken row: then by the header, so that a message can say so.
        headings = {way: _header_width(way, sample) for way in ways if way.escape is None}
        widest = max(headings, key=headings.__getitem__)
        even = [way for way in ways if _widths(way, sample) == {1}]
        return even[0] if even and headings[widest] == 1 else widest
    return replace(best, escapes_all=True) if _escapes_breaks(best, sample) else best


def _escapes_breaks(way: _Dialect, sample: list[str]) -> bool:
    """Whether all line breaks in cells have a backslash, as MySQL writes them."""
    breaks: list[str] = []
    with contextlib.suppress(csv.Error):
        for cells in way.reader(sample) if way.escape else ():
            breaks += re.findall(r"(.?)\r?\n", "\0".join(cells))
    return set(breaks) == {"\\"}


def _header_width(way: _Dialect, sample: list[str]) -> int:
    try:
        return len(next(way.reader(sample), []))
    except csv.Error:
        return 0


def _widths(way: _Dialect, sample: list[str]) -> set[int]:
    """Numbers of cells of the sample's rows; 0 where it cannot be read so."""
    widths: set[int] = set()
    cut = len(sample) > _SAMPLE or sum(map(len, sample)) > _SAMPLE_CHARACTERS
    try:
        widths.update(len(cells) for cells in way.reader(sample) if cells)
    except csv.Error as error:
        if not (cut and "unexpected end" in str(error)):  # a cell may go on behind the sample
            widths.add(0)
    return widths


def _rows(
    content: Content, lines: Iterable[str], dialect: _Dialect, skipped: int, notes: list[str]
) -> Iterator[Row]:
    reader = dialect.reader(lines)
    header: list[str] = []
    missing = 0
    again: list[int] = []
    try:
        heading: list[str] = next(reader, [])
        header = _header(content, heading, notes)
        numbered = ((reader.line_num + skipped, cells) for cells in reader if cells)
        cells_of = _without(heading, numbered, again)
        first = list(itertools.islice(_even(cells_of, header), _SAMPLE))
        structured = _structured(header, [cells for _, cells in first])
        if structured:
            notes.append(f"lists and objects in cells: {listed([header[i] for i in structured])}")
        for number, cells in itertools.chain(first, _even(cells_of, header)):
            row: Row = dict(zip(header, cells, strict=True))
            for name, cell in row.items():
                if cell in MISSING:
                    row[name] = None
                    missing += 1
            for index in structured:
                if row[header[index]]:
                    row[header[index]] = _structure(content, number, header[index], cells[index])
            yield row
    except csv.Error as error:
        raise DataError(
            f"{shown(content.name)}, line {reader.line_num + skipped}: cannot be read as a row; "
            f"got {error}; wanted {len(header)} cells ({listed(header)}), quoted where they hold "
            f"{_DELIMITERS.get(dialect.delimiter, 'delimiters')}, quotes or line breaks; repair "
            "or remove it"
        ) from error
    if again:
        notes.append(f"the header stands again in lines left out: {listed(list(map(str, again)))}")
    if missing:
        notes.append(f"cells that say NaN, NULL or None and are missing: {missing:,}")


def _without(
    heading: list[str], cells_of: Iterator[tuple[int, list[str]]], again: list[int]
) -> Iterator[tuple[int, list[str]]]:
    """Leave out lines that repeat the header, and keep their numbers."""
    for number, cells in cells_of:
        if cells == heading:
            again.append(number)
        else:
            yield number, cells


def _even(
    cells_of: Iterator[tuple[int, list[str]]], header: list[str]
) -> Iterator[tuple[int, list[str]]]:
    for number, cells in cells_of:
        if len(cells) != len(header):
            raise csv.Error(f"{len(cells)} cells")
        yield number, cells


def _header(content: Content, cells: list[str], notes: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    lowered = [name.lower() for name in names]
    twice = [name for name, count in Counter(lowered).items() if count > 1 and name]
    if twice:
        raise DataError(
            f"{shown(content.name)} has a column twice: {listed(twice)}; wanted each name once; "
            "rename or remove one of them"
        )
    if names and (not any(names) or any(map(_is_data, names))):
        raise DataError(
            f"{shown(content.name)} has no header: its first line is "
            f"{shorten(', '.join(names), 80)!r}; wanted the names of the columns; add them as the "
            "first line, for example prompt,completion"
        )
    if lowered != names:
        notes.append("column names in lower case")
    return [name or f"unnamed: {index}" for index, name in enumerate(lowered)]


def _is_data(name: str) -> bool:
    """Whether a cell of the first line is no name of a column."""
    return (
        len(name) > _LONGEST_NAME
        or "\n" in name
        or name.endswith((".", "?", "!", "。", "？", "！"))
        or re.fullmatch(r"[+-]?\d+([.,]\d+)?", name) is not None
    )


def _structured(header: list[str], sample: list[list[str]]) -> list[int]:
    """The columns whose cells are all messages."""
    found = []
    for index in range(len(header)):
        cells = [cells[index] for cells in sample if cells[index] and cells[index] not in MISSING]
        values = []
        for cell in cells:
            if not cell.lstrip().startswith(("[", "{")):
                break
            try:
                values.append(_literal(cell))
            except ValueError:
                break
        # Other lists are read where a format wants one: here they may be texts.
        if cells and len(values) == len(cells) and all(map(_is_messages, values)):
            found.append(index)
    return found


def _is_messages(value: Any) -> bool:
    messages = value if isinstance(value, list) else [value]
    return bool(messages) and all(
        isinstance(one, dict) and len(_MESSAGE_KEYS & one.keys()) >= 2 for one in messages
    )


def _literal(cell: str) -> Any:
    """A value as JSON, or as Python writes it.

    Raises:
        ValueError: It is neither.
    """
    try:
        return parse(cell)
    except ValueError:
        try:
            return ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(str(error)) from error


def _structure(content: Content, number: int, name: str, cell: str) -> Any:
    try:
        return _literal(cell)
    except ValueError as error:
        raise DataError(
            f"{shown(content.name)}, line {number}, column {shown(name)}: cannot be read as a list "
            f"or object; got {shorten(cell, 60)!r}; wanted JSON as in the rows before; repair or "
            "remove it"
        ) from error
