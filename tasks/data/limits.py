"""How much data this machine can work on, and how packed data is unpacked within that.

Rows in memory take about eight times their bytes, before they are tokenised.
"""

import bz2
import gzip
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from models.errors import DataError
from models.files import CHUNK, kind_of, open_file, read_chunks, reading, shown, too_large
from tasks.machine.memory import main_memory

BYTES_PER_BYTE = 8
"""Of memory, for each byte of a file."""
BYTES_PER_ROW = 2048
"""Of memory, for each row of a file, however short."""
LONGEST_LINE = 2**26
HIGHEST_RATIO = 200
"""Texts are packed to a third or a tenth; what unpacks to more than this is a bomb."""
BEYOND_DOUBT = 2**26
"""Bytes below which no ratio is suspicious."""
MOST_FILES = 10_000
_UNPACKERS: dict[str, tuple[str, Callable[[BinaryIO], Any]]] = {
    ".gz": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    ".bz2": ("bzip2", bz2.BZ2File),
    ".xz": ("xz", lzma.LZMAFile),
}


def most_bytes() -> int:
    """The largest file, or all files of a folder together, that rows can be read from."""
    return main_memory() // BYTES_PER_BYTE


class Guard:
    """Counts what comes out of a file, and stops where it would not fit."""

    def __init__(self, path: Path, *, packed_bytes: int | None = None) -> None:
        """Start at nothing.

        Args:
            packed_bytes: Size of a packed file; None of a plain one.
        """
        self._path = path
        self._packed = packed_bytes
        self._bytes = self._rows = self._line = 0
        self._is_array = False

    def count(self, count: int, *, rows: int = 0) -> None:
        """Count more bytes and rows.

        Raises:
            DataError: There are too many, or too many for a packed file of its size.
        """
        self._bytes += count
        self._rows += rows
        if self._bytes > most_bytes():
            raise too_large(self._path, most_bytes())
        if self._rows * BYTES_PER_ROW > main_memory():
            raise DataError(
                f"{shown(self._path)} holds more than {main_memory() // BYTES_PER_ROW:,} rows, "
                "which is what this machine's memory can work on; give fewer, or use a machine "
                "with more memory"
            )
        if self._packed is not None and self._bytes > max(
            BEYOND_DOUBT, HIGHEST_RATIO * self._packed
        ):
            raise DataError(
                f"{shown(self._path)} unpacks to more than {HIGHEST_RATIO} times its size; wanted "
                "texts, which never do; unpack it yourself if that is meant"
            )

    def passed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Hand on the bytes of a text file, counting its lines.

        Raises:
            DataError: A line is too long; one JSON array may stand in one line.
        """
        for chunk in chunks:
            if not self._bytes:
                self._is_array = chunk.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"[")
            self.count(len(chunk), rows=0 if self._is_array else chunk.count(b"\n"))
            if not self._is_array:
                self._count_lines(chunk)
            yield chunk

    def _count_lines(self, chunk: bytes) -> None:
        first = chunk.find(b"\n")
        self._line += len(chunk) if first < 0 else first
        if self._line > LONGEST_LINE:
            raise DataError(
                f"{shown(self._path)} has a line of more than {LONGEST_LINE >> 20} MiB; wanted one "
                "row a line; break it into rows"
            )
        if first >= 0:
            self._line = len(chunk) - chunk.rfind(b"\n") - 1


def unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The content of a file, unpacked if its ending says that it is packed.

    Raises:
        DataError: It is damaged or not what its ending says, or too large.
    """
    if path.suffix not in _UNPACKERS:
        yield from read_chunks(file, path, most_bytes=most_bytes())
        return
    name, unpack = _UNPACKERS[path.suffix]
    stream = unpack(file)
    while True:
        try:
            chunk = stream.read(CHUNK)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(
                f"{shown(path)} is not a whole {name} file ({error}); wanted {name} data because "
                f"of its ending {path.suffix}; copy the file again or rename it"
            ) from error
        if not chunk:
            return
        yield chunk


def local_files(folder: Path) -> list[Path]:
    """All files of a folder that a library is to read, checked before it does.

    Raises:
        DataError: Something in it is no regular file or may not be read, or it is too much.
    """
    guard = Guard(folder)
    found: list[Path] = []
    for path in folder.rglob("*"):
        with reading(path):
            about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            continue
        if not stat.S_ISREG(about.st_mode):
            raise DataError(
                f"{shown(path)} is {kind_of(about.st_mode)}; wanted regular files only; remove it"
            )
        guard.count(about.st_size)
        found.append(path)
        if len(found) > MOST_FILES:
            raise DataError(
                f"{shown(folder)} holds more than {MOST_FILES:,} files; wanted the folder of one "
                "dataset; correct the path"
            )
    for path in found:
        _check_packed(path, guard)
    return found


def _check_packed(path: Path, guard: Guard) -> None:
    """Unpack a packed file to nowhere: a library would unpack it to the disk."""
    with open_file(path, most_bytes=most_bytes()) as file:
        if path.suffix == ".zip":
            with reading(path, "a whole zip file"), zipfile.ZipFile(file) as archive:
                sizes = [(one.compress_size, one.file_size) for one in archive.infolist()]
            for packed, size in sizes:
                Guard(path, packed_bytes=packed).count(size)
                guard.count(size)
        elif path.suffix in _UNPACKERS:
            own = Guard(path, packed_bytes=os.fstat(file.fileno()).st_size)
            for chunk in unpacked(file, path):
                own.count(len(chunk))
                guard.count(len(chunk))
