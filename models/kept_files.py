"""Files that are kept because making them again takes long.

A file appears under its name in one step, when it is whole, and its checksum is compared before it
is used. So two runs may write one at once, and what is damaged is written again.

    payload  whatever its writer writes
    facts    what it tells of the payload, as JSON
    trailer  a checksum of everything before
"""

import contextlib
import json
import logging
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

CHUNK = 2**24
"""Bytes that are read at once to compare a checksum."""
TRAILER = struct.Struct("<8sIQ")
FORMAT = b"kept-1\0\0"

Write: TypeAlias = Callable[[BinaryIO], Mapping[str, Any]]
"""Writes the payload and returns the facts."""

logger = logging.getLogger(__name__)


def open_kept(path: Path, write: Write) -> tuple[BinaryIO, dict[str, Any]]:
    """Open a file for reading; one that is not there, or not what was written, is written first.

    Args:
        path: Where it is kept; its name must tell all that its contents depend on.
        write: Writes into an empty file.

    Returns:
        The file at its beginning, which stays readable when its name goes, and the facts.
    """
    file: BinaryIO
    with contextlib.suppress(FileNotFoundError):
        file = path.open("rb")
        facts = _facts(file)
        if facts is not None:
            os.utime(path)  # when it was last of use
            return file, facts
        file.close()
        logger.warning("%s is damaged and is written again", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(
        dir=path.parent, prefix=f"{path.stem}.", suffix=".writing"
    )
    try:
        file = os.fdopen(descriptor, "w+b")
        facts = dict(write(file))
        _seal(file, facts)
        with contextlib.suppress(FileNotFoundError):  # `quartet gc` has removed its folder
            os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)
    file.seek(0)
    return file, facts


def _seal(file: BinaryIO, facts: Mapping[str, Any]) -> None:
    text = json.dumps(facts).encode()
    file.write(text)
    file.flush()
    file.seek(0)
    checksum = 0
    while chunk := file.read(CHUNK):
        checksum = zlib.crc32(chunk, checksum)
    file.write(TRAILER.pack(FORMAT, checksum, len(text)))
    file.flush()


def _facts(file: BinaryIO) -> dict[str, Any] | None:
    """What a file tells of itself; None if it is not exactly what was written."""
    left = size = os.fstat(file.fileno()).st_size - TRAILER.size
    checksum, chunk = 0, b"?"
    while left > 0 and chunk:
        chunk = file.read(min(CHUNK, left))
        checksum = zlib.crc32(chunk, checksum)
        left -= len(chunk)
    trailer = file.read()
    if left or len(trailer) != TRAILER.size:
        return None
    known, found, length = TRAILER.unpack(trailer)
    if known != FORMAT or found != checksum or length > size:
        return None
    file.seek(size - length)
    facts: dict[str, Any] = json.loads(file.read(length))
    file.seek(0)
    return facts
