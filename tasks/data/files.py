"""Files of rows as people have them: row by row (`open_rows`) or all at once (`read_file`).

Which file that is, how it is packed and encoded, and what its rows are is told by its content, and
what had to be assumed stands in the notes. Columns are interpreted in `formats`, values checked in
`quality`.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from models.errors import DataError
from models.files import open_file, shown, user_path
from tasks.data.config import TextMode
from tasks.data.formats import Row
from tasks.data.limits import Guard, most_bytes
from tasks.data.reading.contents import read_content
from tasks.data.reading.packing import open_content
from tasks.data.reading.paths import ENDINGS, ending_of, expand
from tasks.data.reading.recognition import refuse_pointer

__all__ = ["ENDINGS", "FileRows", "ending_of", "expand", "open_rows", "read_file", "user_path"]


@dataclass(slots=True, kw_only=True)
class FileRows:
    """The rows of one file, read while they are iterated.

    Attributes:
        label: The file's name, for messages and the report.
        notes: What had to be assumed to read it; complete after the last row.
        position: How many bytes of the file were read so far, to show how far it is.
    """

    label: str
    rows: Iterable[Row]
    notes: list[str] = field(default_factory=list)
    position: Callable[[], int] = int

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def open_rows(path: Path, *, encoding: str = "", text: TextMode = "ask") -> FileRows:
    """Read a file's rows one after the other, within memory that does not grow with the file.

    Args:
        path: A file whose name ends with one of `ENDINGS`, in any letter case.
        encoding: Of a text file; empty = detected.
        text: Whether each line of a text file is a text, or the whole file is one.

    Raises:
        DataError: If the file is empty, unreadable, or a line of it is broken; also in the middle.
    """
    notes: list[str] = []
    opened: list[BinaryIO] = []

    def position() -> int:
        return opened[0].tell() if opened and not opened[0].closed else 0

    rows = _rows(path, encoding, text, notes, opened, held=False)
    return FileRows(label=path.name, rows=rows, notes=notes, position=position)


def read_file(path: Path, *, encoding: str = "", text: TextMode = "ask") -> list[Row]:
    """Read all rows of a file into memory.

    Args:
        path: A file whose name ends with one of `ENDINGS`, in any letter case.
        encoding: Of a text file; empty = detected.
        text: Whether each line of a text file is a text, or the whole file is one.

    Raises:
        DataError: If the file is empty, unreadable, more than fits, or a line of it is broken.
    """
    guard = Guard(path)
    rows: list[Row] = []
    for row in _rows(path, encoding, text, [], [], held=True):
        guard.count(0, rows=1)
        rows.append(row)
    return rows


def _rows(
    path: Path,
    encoding: str,
    text: TextMode,
    notes: list[str],
    opened: list[BinaryIO],
    *,
    held: bool,
) -> Iterator[Row]:
    refuse_pointer(path)
    count = 0
    with open_file(path, most_bytes=most_bytes() if held else sys.maxsize) as file:
        opened.append(file)
        content = open_content(str(path), file, held=held)
        for row in read_content(content, encoding, text, notes):
            count += 1
            yield row
    if not count:
        raise DataError(
            f"{shown(path)} is empty: got no rows, wanted at least one; fill the file or remove it"
        )
