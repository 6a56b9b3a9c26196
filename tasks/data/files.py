"""Reads one file into rows: text, JSON (lines or one array), CSV and parquet, also gzipped.

Accepts byte-order marks, Latin-1, \\x85 and U+2028 inside texts (lines end at \\n only), and an
array in a file named `.jsonl`. Columns are interpreted in `formats`, values checked in `quality`.
How much is read at most follows from this machine's memory (`limits`).
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from models.errors import DataError
from models.files import listed, open_file, parse_json, reading, shown, user_path
from tasks.data.config import TextMode
from tasks.data.formats import Row
from tasks.data.limits import Guard, most_bytes, unpacked

__all__ = ["ENDINGS", "FileRows", "open_rows", "read_file", "user_path"]

_TEXT_ENDINGS = (".txt", ".jsonl", ".json", ".csv")
ENDINGS = (*_TEXT_ENDINGS, *(f"{ending}.gz" for ending in _TEXT_ENDINGS), ".parquet")
"""File endings that can be read."""

# Latin-1 texts have accents here and there; other 8-bit encodings are mostly such bytes.
_MOST_HIGH_BYTES = 0.3

PARQUET_BATCH_ROWS = 256
"""Few, so that a file that unpacks to more than it says is noticed early."""


@dataclass(slots=True, kw_only=True)
class FileRows:
    """The rows of one file, read while they are iterated.

    Attributes:
        label: The file's name, for messages and the report.
        notes: What had to be assumed to read it; complete after the last row.
    """

    label: str
    rows: Iterable[Row]
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def open_rows(path: Path, *, encoding: str = "", text: TextMode = "ask") -> FileRows:
    """Read a file's rows one after the other, by its ending.

    Args:
        path: A file whose name ends with one of `ENDINGS`.
        encoding: Of a text file; empty = detected.
        text: Whether each line of a text file is a text, or the whole file is one.

    Raises:
        DataError: If the file is empty, unreadable, or a line of it is broken; also in the middle.
    """
    return FileRows(label=path.name, rows=read_file(path))


def read_file(path: Path) -> list[Row]:
    """Read all rows of a file, by its ending.

    A text file has one text per line; blank lines are skipped everywhere.

    Args:
        path: A file whose name ends with one of `ENDINGS`.

    Raises:
        DataError: If the file is empty, unreadable, or a line of it is broken.
    """
    if path.suffix == ".parquet":
        rows = _read_parquet(path)
    else:
        text = _decode(path, _read_bytes(path))
        ending = Path(path.name.removesuffix(".gz")).suffix
        read = {".txt": _read_txt, ".csv": _read_csv}.get(ending, _read_json)
        rows = read(path, text)
    if not rows:
        raise DataError(
            f"{shown(path)} is empty: got no rows, wanted at least one; fill the file or remove it"
        )
    return rows


def _read_bytes(path: Path) -> bytes:
    with open_file(path, most_bytes=most_bytes()) as file:
        packed = os.fstat(file.fileno()).st_size if path.suffix == ".gz" else None
        guard = Guard(path, packed_bytes=packed)
        return b"".join(guard.passed(unpacked(file, path)))


def _decode(path: Path, data: bytes) -> str:
    """Decode UTF-8 (or UTF-16 by its mark), else Latin-1 where the bytes look like it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            _refuse_encoding(path, data, error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lenient = data.decode("utf-8", errors="replace")
        broken = lenient.count("\ufffd")
        sound = len(lenient) - len(lenient.encode("ascii", errors="ignore")) - broken
        high_bytes = len(data.translate(None, bytes(range(128))))
        # Damaged UTF-8, or another encoding: as Latin-1 it would silently be garbled.
        if sound >= broken or high_bytes > _MOST_HIGH_BYTES * len(data):
            _refuse_encoding(path, data, error)
    try:
        # Files called Latin-1 are mostly Windows-1252, where \x85 is an ellipsis.
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _refuse_encoding(path: Path, data: bytes, error: UnicodeDecodeError) -> NoReturn:
    line = data.count(b"\n", 0, error.start) + 1
    raise DataError(
        f"{shown(path)}, line {line}: got bytes that are neither UTF-8 nor Latin-1 text; wanted "
        "UTF-8; repair the line or convert the file (iconv -f ENCODING -t UTF-8)"
    ) from error


def _read_txt(path: Path, text: str) -> list[Row]:
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [{"text": line} for line in lines if line.strip()]


def _read_json(path: Path, text: str) -> list[Row]:
    """Read JSON lines, or one array, which starts with a bracket."""
    if text.lstrip().startswith("["):
        items = enumerate(_parse(path, text, 1), 1)
        places = [(f"item {number}", item) for number, item in items]
    else:
        lines = enumerate(text.split("\n"), 1)
        places = [
            (f"line {number}", _parse(path, line, number)) for number, line in lines if line.strip()
        ]
    for place, item in places:
        if not isinstance(item, dict):
            raise _not_a_row(path, place, f"a {type(item).__name__}")
    return [item for _, item in places]


def _parse(path: Path, text: str, first_line: int) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        got = f"{text[error.pos : error.pos + 20]!r} ({error.msg})"
        raise _not_a_row(path, f"line {first_line + error.lineno - 1}", got) from error
    except ValueError as error:  # nested too deeply, or a number of thousands of digits
        raise _not_a_row(path, f"line {first_line}", f"a value that is {error}") from error


def _not_a_row(path: Path, place: str, got: str) -> DataError:
    return DataError(
        f"{shown(path)}, {place}: cannot be read as a row; got {got}; wanted one JSON object a "
        "line, or one JSON array of objects; repair or remove it"
    )


def _read_csv(path: Path, text: str) -> list[Row]:
    """Read comma-separated rows under a header line; quoted cells may span lines."""
    limit = csv.field_size_limit(sys.maxsize)  # documents are longer than its 128 kB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise csv.Error(f"{len(cells)} cells")
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{shown(path)}, line {reader.line_num}: cannot be read as a row; got {error}; wanted "
            f"{len(header)} cells ({listed(header)}), quoted where they hold commas, quotes or "
            "line breaks; repair or remove it"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _size(column: Any) -> int:
    """The bytes of a column whose words stand once in the file, but in every row here."""
    whole = column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
    return int(whole.nbytes)


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet

    wanted = "a whole parquet file because of its ending"
    rows: list[Row] = []
    with open_file(path, most_bytes=most_bytes()) as file, reading(path, wanted):
        guard = Guard(path, packed_bytes=os.fstat(file.fileno()).st_size)
        found = pyarrow.parquet.ParquetFile(file)
        guard.count(0, rows=found.metadata.num_rows)
        for batch in found.iter_batches(PARQUET_BATCH_ROWS):
            guard.count(sum(_size(column) for column in batch.columns))
            rows += batch.to_pylist()
    return rows
