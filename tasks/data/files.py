"""Reads one file into rows: text, JSON (lines or one array), CSV and parquet, also gzipped.

Accepts byte-order marks, Latin-1, \\x85 and U+2028 inside texts (lines end at \\n only), and an
array in a file named `.jsonl`. Columns are interpreted in `formats`, values checked in `quality`.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any, NoReturn

from models.errors import DataError
from tasks.data.formats import Row

_TEXT_ENDINGS = (".txt", ".jsonl", ".json", ".csv")
ENDINGS = (*_TEXT_ENDINGS, *(f"{ending}.gz" for ending in _TEXT_ENDINGS), ".parquet")
"""File endings that can be read."""

# Latin-1 texts have accents here and there; other 8-bit encodings are mostly such bytes.
_MOST_HIGH_BYTES = 0.3


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
            f"{path} is empty: got no rows, wanted at least one; fill the file or remove it"
        )
    return rows


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be opened ({error}); wanted a readable file; check its permissions"
        ) from error
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is not a whole gzip file ({error}); wanted gzip data because of its ending "
            ".gz; copy the file again or rename it"
        ) from error


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
        f"{path}, line {line}: got bytes that are neither UTF-8 nor Latin-1 text; wanted UTF-8; "
        "repair the line or convert the file (iconv -f ENCODING -t UTF-8)"
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
        return json.loads(text, strict=False)  # raw tabs and escapes inside texts are met
    except json.JSONDecodeError as error:
        got = f"{text[error.pos : error.pos + 20]!r} ({error.msg})"
        raise _not_a_row(path, f"line {first_line + error.lineno - 1}", got) from error


def _not_a_row(path: Path, place: str, got: str) -> DataError:
    return DataError(
        f"{path}, {place}: cannot be read as a row; got {got}; wanted one JSON object a line, or "
        "one JSON array of objects; repair or remove it"
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
            f"{path}, line {reader.line_num}: cannot be read as a row; got {error}; wanted "
            f"{len(header)} cells ({', '.join(header)}), quoted where they hold commas, quotes or "
            "line breaks; repair or remove it"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a whole parquet file ({error}); wanted parquet because of its ending; "
            "copy the file again or rename it"
        ) from error
    return rows
