"""Decoded text of a file: characters or lines, one after the other."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.data.reading.packing import ByteStream, Content

MARK = "\ufeff"
"""The byte-order mark; it also stands where marked files were joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How the bytes of a text become characters, and where its lines end."""

    encoding: str
    newline: str = "\n"

    def open(self, content: Content, newline: str | None = None) -> io.TextIOWrapper:
        """The text from its beginning; other line ends than the file's own stay in it."""
        stream = io.BufferedReader(ByteStream(content.text_bytes()), 2**17)
        return io.TextIOWrapper(
            stream, encoding=self.encoding, newline=self.newline if newline is None else newline
        )

    def lines(self, content: Content) -> Iterator[str]:
        """The lines without their ends and without marks where joined files begin."""
        with self.open(content) as text:
            for line in text:
                line = line.rstrip("\r\n") if line[-1:] in "\r\n" else line
                yield line.lstrip(MARK) if line[:1] == MARK else line
