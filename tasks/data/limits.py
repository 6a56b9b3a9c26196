"""How much data is taken, and how packed data is unpacked within that.

Rows that are read one after the other may be as many as they like. What is held in memory is not:
rows take about eight times their bytes there, before they are tokenised.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from models.errors import DataError
from models.files import kind_of, open_file, read_chunks, reading, shown, too_large
from tasks.data.reading.paths import MOST_FILES
from tasks.data.reading.recognition import packing_of
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
CHUNK = 2**20
_USUAL_WINDOW, _LARGEST_WINDOW = 2**27, 2**31
"""Bytes of memory to unpack what zstd packs, and with --long=31; filled as far as content goes."""
_SLICE = 2**12
"""Packed bytes that zstd gets at once: each may become 32,768 at most."""
WRAPPERS = ("data", "rows", "examples", "instances", "items", "records", "samples", "train")
"""Keys of a JSON object that may hold all rows in a list."""
_ONE_VALUE = re.compile(rb'\[|\{\s*("\w+"\s*:\s*("[^"]*"|[\w.-]+)\s*,\s*)*"(%s)"\s*:\s*\['
                        % "|".join(WRAPPERS).encode())  # fmt: skip


def most_bytes() -> int:
    """The largest file, or all files of a folder together, that rows can be read from."""
    return main_memory() // BYTES_PER_BYTE


class Guard:
    """Counts what comes out of a file, and stops where it would not fit."""

    def __init__(self, path: Path, *, packed_bytes: int | None = None, held: bool = True) -> None:
        """Start at nothing.

        Args:
            packed_bytes: Size of a packed file; None of a plain one.
            held: Whether all that is counted will be in memory at once.
        """
        self._path = path
        self.packed_bytes = packed_bytes
        self._held = held
        self._bytes = self._rows = self._line = 0
        self._is_one_value = False

    def count(self, count: int, *, rows: int = 0) -> None:
        """Count more bytes and rows.

        Raises:
            DataError: There are too many, or too many for a packed file of its size.
        """
        self._bytes += count
        self._rows += rows
        if self._held and self._bytes > most_bytes():
            raise too_large(self._path, most_bytes())
        if self._held and self._rows * BYTES_PER_ROW > main_memory():
            raise DataError(
                f"{shown(self._path)} holds more than {main_memory() // BYTES_PER_ROW:,} rows, "
                "which is what this machine's memory can work on; give fewer, or use a machine "
                "with more memory"
            )
        if self.packed_bytes is not None and self._bytes > max(
            BEYOND_DOUBT, HIGHEST_RATIO * self.packed_bytes
        ):
            raise DataError(
                f"{shown(self._path)} unpacks to more than {HIGHEST_RATIO} times its size; wanted "
                "texts, which never do; unpack it yourself if that is meant"
            )

    def passed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Hand on the bytes of a text file, counting its lines.

        Raises:
            DataError: A line is too long; one JSON value with all rows may stand in one line.
        """
        for chunk in chunks:
            if not self._bytes:
                start = chunk.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:4096]
                self._is_one_value = _ONE_VALUE.match(start.replace(b"\0", b"")) is not None
            self.count(len(chunk), rows=0 if self._is_one_value else chunk.count(b"\n"))
            if not self._is_one_value:
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


class _LargeWindow(Exception):
    """A zstd file that refers further back than this machine can remember."""


def unpacked(file: BinaryIO, path: Path, packing: str = "") -> Iterator[bytes]:
    """The content of a file.

    Args:
        packing: How it is packed: gzip, bzip2, xz or zstd; empty for a plain file.

    Raises:
        DataError: It is damaged, or takes too much memory to unpack.
    """
    if not packing:
        yield from read_chunks(file, path, most_bytes=sys.maxsize)
        return
    unpack = _unzstd if packing == "zstd" else _stream
    try:
        yield from unpack(file, packing)
    except _LargeWindow as error:
        raise DataError(
            f"{shown(path)} was packed with a window (zstd --long) of more than "
            f"{_most_window() >> 20:,} MiB, which is what this machine's memory can work on; "
            "unpack it (zstd -d --long=31), pack it without --long, or use a machine with more "
            "memory"
        ) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{shown(path)} is not a whole {packing} file ({error}): it was not written or copied "
            "to its end, or damaged; copy the file again"
        ) from error


def _stream(file: BinaryIO, packing: str) -> Iterator[bytes]:
    stream: Any
    if packing == "gzip":
        stream = gzip.GzipFile(fileobj=file, mode="rb")
    else:
        stream = bz2.BZ2File(file) if packing == "bzip2" else lzma.LZMAFile(file)  # noqa: SIM115
    while chunk := stream.read(CHUNK):
        yield chunk


def _unzstd(file: BinaryIO, packing: str) -> Iterator[bytes]:
    """Unpack frame by frame: the library's own stream takes a cut file for a whole one."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_most_window())
    frame = unpacker.decompressobj()
    whole = True
    try:
        while part := file.read(_SLICE):
            while part:
                if frame.eof:
                    frame = unpacker.decompressobj()
                if chunk := frame.decompress(part):
                    yield chunk
                part = frame.unused_data if frame.eof else b""
                whole = frame.eof
    except zstandard.ZstdError as error:
        if "too much memory" in str(error):
            raise _LargeWindow(str(error)) from error
        raise OSError(str(error)) from error
    if not whole:
        raise EOFError("its last frame is cut")


def _most_window() -> int:
    return max(_USUAL_WINDOW, min(_LARGEST_WINDOW, most_bytes()))


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
        elif packing := packing_of(file.read(8)):
            file.seek(0)
            own = Guard(path, packed_bytes=os.fstat(file.fileno()).st_size)
            for chunk in unpacked(file, path, packing):
                own.count(len(chunk))
                guard.count(len(chunk))
