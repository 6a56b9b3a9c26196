"""Files and texts that people give: read within bounds, and every foreign error becomes ours.

A path may name a pipe, a device or a file without end, a file may change or be a bomb, and a text
may nest a million brackets. Nothing here waits, and nothing here takes more memory than it is told.
"""

import contextlib
import errno
import hashlib
import json
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from models.display import in_one_line
from models.errors import DataError, QuartetError
from models.progress import Meter

CHUNK = 2**24
LONGEST_NAME = 200

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextlib.contextmanager
def reading(what: object, wanted: str = "a readable file") -> Iterator[None]:
    """Turn what the system and libraries raise about foreign data into a DataError.

    Only calls that read foreign data belong into the block: a ValueError of one's own would be
    blamed on the file.

    Raises:
        DataError: Whatever was raised inside, in one line.
    """
    try:
        yield
    except QuartetError:
        raise
    except RecursionError as error:
        raise _unread(what, "is nested too deeply", wanted) from error
    except MemoryError as error:
        raise _unread(what, "does not fit into memory", wanted) from error
    except (
        OSError, EOFError, ValueError, OverflowError, NotImplementedError, TypeError, LookupError,
        RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    ) as error:  # fmt: skip
        raise _unread(what, f"cannot be read ({reason(error)})", wanted) from error


def _unread(what: object, fault: str, wanted: str) -> DataError:
    return DataError(f"{shown(what)} {fault}; wanted {wanted}; repair, replace or remove it")


def reason(error: BaseException) -> str:
    """What an error says, in one short line and without the path, which stands before it."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return in_one_line(shorten(said)) or type(error).__name__


def shorten(text: str, characters: int = LONGEST_NAME) -> str:
    """A text as one line of limited length."""
    line = " ".join(text[: 4 * characters].split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def shown(name: object) -> str:
    """A name of a file or column for a message."""
    return shorten(in_one_line(str(name)))


def listed(names: list[str], most: int = 10) -> str:
    """Names for a message, the first of many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more


def user_path(name: str | Path) -> Path:
    """A path as people write it, with `~` for a home folder.

    Raises:
        DataError: There is no such user, or no path has such a name.
    """
    with reading(name, "a path"):
        path = Path(name).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()  # names that are too long, or hold null characters
        return path


def open_file(path: Path, *, most_bytes: int) -> BinaryIO:
    """Open a regular file without ever waiting for it.

    Args:
        most_bytes: A larger file is refused.

    Raises:
        DataError: It is missing, no regular file, too large, or may not be read.
    """
    with reading(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise DataError(
                f"{shown(path)} is {kind_of(about.st_mode)}; wanted a regular file; correct the "
                "path"
            )
        if about.st_size > most_bytes:
            os.close(descriptor)
            raise too_large(path, most_bytes)
        return os.fdopen(descriptor, "rb", buffering=0)


def kind_of(mode: int) -> str:
    """What stands at a path, by its mode."""
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def too_large(path: Path, most_bytes: int) -> DataError:
    """The error for more data than fits."""
    return DataError(
        f"{shown(path)} holds more than {most_bytes / 2**20:,.0f} MiB, which is what this "
        "machine's memory can work on; split the file, give less, or use a machine with more memory"
    )


def read_chunks(file: Any, path: Path, *, most_bytes: int) -> Iterator[bytes]:
    """Read a file, also one that is unpacked on the way, up to a limit.

    Raises:
        DataError: There is more, or what there is cannot be read.
    """
    count = 0
    while True:
        with reading(path):
            chunk = file.read(min(CHUNK, most_bytes - count + 1))
            if chunk is None:
                raise OSError(errno.EAGAIN, "it has no end yet")
        if not chunk:
            return
        count += len(chunk)
        if count > most_bytes:
            raise too_large(path, most_bytes)
        yield chunk


def digest_file(path: Path, *, most_bytes: int) -> str:
    """The sha256 of a file in hexadecimal.

    Raises:
        DataError: It cannot be read, or is too large.
    """
    digest, meter = hashlib.sha256(), Meter(f"reading {path.name}", unit="MB")
    with open_file(path, most_bytes=most_bytes) as file:
        for chunk in read_chunks(file, path, most_bytes=most_bytes):
            digest.update(chunk)
            meter.add(len(chunk) / 1e6)
    return digest.hexdigest()


def parse_json(text: str) -> Any:
    """Parse JSON of a stranger; raw tabs and escapes inside texts are met and taken.

    Raises:
        ValueError: In one line, whatever is wrong with it.
    """
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
