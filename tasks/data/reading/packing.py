"""The content of a file or of a member of an archive, unpacked, as often as it is asked for."""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from models.errors import DataError
from models.files import listed, reading, shown
from tasks.data.limits import CHUNK, Guard, unpacked
from tasks.data.reading.paths import ENDINGS, ending_of, left_out
from tasks.data.reading.recognition import HEAD, packing_of, refuse_office

_IN_MEMORY = 2**26
"""Bytes beyond which what must be unpacked to be read goes to a temporary file."""


class ByteStream(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Start in front of the first chunk."""
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is, and neither written nor moved in."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next, as far as the chunk at hand goes."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Bytes that can be read from their beginning any number of times.

    Attributes:
        name: For messages.
        file: The bytes as they are stored; can be sought in.
        packing: How they are packed; empty if they are not.
        held: Whether all rows will be in memory at once.
    """

    name: str
    file: BinaryIO
    packing: str = ""
    held: bool = False

    @property
    def ending(self) -> str:
        """The name's ending in lower case, without that of the packing."""
        name = self.name.lower()
        for packed in (".gz", ".bz2", ".xz", ".zst"):
            name = name.removesuffix(packed)
        return Path(name).suffix

    def guard(self) -> Guard:
        """Counts what comes out of this content."""
        packed = self.file.seek(0, io.SEEK_END) if self.packing else None
        return Guard(Path(self.name), packed_bytes=packed, held=self.held)

    def unpacked(self) -> Iterator[bytes]:
        """The unpacked bytes.

        Raises:
            DataError: The content is damaged, or too much.
        """
        guard = self.guard()
        self.file.seek(0)
        for chunk in unpacked(self.file, Path(self.name), self.packing):
            guard.count(len(chunk))
            yield chunk

    def text_bytes(self) -> Iterator[bytes]:
        """The unpacked bytes of a text, whose lines have an end.

        Raises:
            DataError: The content is damaged or too much, or a line too long.
        """
        guard = self.guard()
        self.file.seek(0)
        return guard.passed(unpacked(self.file, Path(self.name), self.packing))

    def head(self) -> bytes:
        """The first unpacked bytes."""
        head = b""
        for chunk in self.unpacked():
            head += chunk
            if len(head) >= HEAD:
                break
        return head[:HEAD]

    def seekable(self) -> BinaryIO:
        """The unpacked bytes as a file that can be sought in."""
        if not self.packing:
            self.file.seek(0)
            return self.file
        return _spool(self.unpacked())


def open_content(name: str, file: BinaryIO, *, held: bool) -> Content:
    """Tell by its first bytes how a file is packed."""
    file.seek(0)
    with reading(name):
        packing = packing_of(file.read(8))
    return Content(name=name, file=file, packing=packing, held=held)


def members(content: Content, container: str, notes: list[str]) -> Iterator[Content]:
    """Unpack the files of an archive, one after the other; each is gone when the next one comes.

    Args:
        container: zip or tar.
        notes: Is told which members were left out.

    Raises:
        DataError: The archive is damaged or encrypted, or holds nothing that can be read.
    """
    found: list[str] = []
    others: list[str] = []
    walk = _zipped if container == "zip" else _tarred
    wanted = f"a whole {container} file"
    try:
        with reading(content.name, wanted):
            walked = walk(content)
        while True:
            with reading(content.name, wanted):
                pair = next(walked, None)
            if pair is None:
                break
            name, chunks = pair
            reason = left_out(Path(name).name)
            if chunks is None or reason:
                if not name.startswith("__MACOSX/"):
                    others.append(f"{name} ({reason or 'no regular file'})")
                continue
            found.append(name)
            with reading(f"{content.name}/{name}", wanted):
                file = _spool(chunks)
            with file:
                yield open_content(f"{content.name}/{name}", file, held=content.held)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{shown(content.name)} is not {wanted} ({error}); copy the file again"
        ) from error
    if others:
        notes.append(f"left out of {shown(Path(content.name).name)}: {listed(others)}")
    if not found:
        raise DataError(
            f"{shown(content.name)} holds no file that can be read: got "
            f"{listed(others) or 'nothing'}; wanted files ending in {', '.join(ENDINGS[:8])}, "
            "packed or not; rename them or pack others"
        )


def _spool(chunks: Iterator[bytes]) -> BinaryIO:
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)
    return cast(BinaryIO, file)


_Member = tuple[str, Iterator[bytes] | None]


def _zipped(content: Content) -> Iterator[_Member]:
    with zipfile.ZipFile(content.seekable()) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        refuse_office(content.name, [info.filename for info in infos])
        for info in infos:
            if info.flag_bits & 1 and ending_of(info.filename):
                raise DataError(
                    f"{shown(content.name)}: {shown(info.filename)} is encrypted; wanted an open "
                    "archive; unpack it with its password and give the files in it"
                )
            guard = Guard(
                Path(f"{content.name}/{info.filename}"),
                packed_bytes=info.compress_size,
                held=content.held,
            )
            yield info.filename, _counted(guard, archive, info)


def _counted(guard: Guard, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as file:
        for chunk in _chunks(file):
            guard.count(len(chunk))
            yield chunk


def _tarred(content: Content) -> Iterator[_Member]:
    sizes: list[int] = []
    counted = (sizes.append(len(chunk)) or chunk for chunk in content.unpacked())  # type: ignore[func-returns-value]
    stream = io.BufferedReader(ByteStream(counted), CHUNK)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdir():
                continue
            file = archive.extractfile(member) if member.isfile() else None
            yield member.name, None if file is None else _chunks(file)
        while stream.read(CHUNK):
            pass  # what is behind the end was packed with it, and is checked with it
        if sum(sizes) < archive.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it has no end, so it was cut")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
