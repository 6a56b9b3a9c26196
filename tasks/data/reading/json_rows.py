"""Rows of JSON: one object a line, one array, objects over several lines, and wrapped rows.

Lines are parsed one by one. Everything else is parsed on a buffer that slides over the text, so
that an array may be larger than memory; only what holds its rows in columns is held as a whole.
"""

import itertools
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn

from models.errors import DataError
from models.files import listed, shown
from tasks.data.limits import LONGEST_LINE, WRAPPERS
from tasks.data.reading.lines import MARK, Decoding
from tasks.data.reading.orientations import rows_of_object
from tasks.data.reading.packing import Content

Row = dict[str, Any]

_SPACE = " \t\r\n" + MARK
_READ = 2**18
_NEAR = 32
"""Characters before the end of the buffer where an error may be a value that is not whole."""


def _object(pairs: list[tuple[str, Any]]) -> Row:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"an object with a key twice: {listed(twice)}")
    return made


_DECODER = JSONDecoder(strict=False, object_pairs_hook=_object)


def parse(text: str) -> Any:
    """Parse one value; a key that stands twice in an object is an error.

    Raises:
        ValueError: In one line, whatever is wrong with it.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(content: Content, decoding: Decoding, notes: list[str]) -> Iterator[Row]:
    """Read the rows of a JSON file, whatever its shape."""
    head: list[tuple[int, str]] = []
    with decoding.open(content) as text:
        is_array = text.read(2**12).lstrip(_SPACE).startswith("[")
    with decoding.open(content) as text:
        numbered = enumerate(iter(lambda: text.readline(LONGEST_LINE + 2), ""), 1)
        for number, line in () if is_array else numbered:
            if stripped := line.strip(_SPACE):
                head.append((number, stripped))
            if len(head) == 2 or len(line) > LONGEST_LINE:
                break
        if _is_lines(head):
            lines = itertools.chain(head, ((n, line.strip(_SPACE)) for n, line in numbered))
            yield from _lines(content, lines)
            return
    with decoding.open(content) as text:
        yield from _Values(content, text, notes).rows()


def _is_lines(head: list[tuple[int, str]]) -> bool:
    """Whether each line is a value of its own, by the first two that are not blank."""
    if len(head) < 2:
        return False  # an array, or one value, which may hold rows
    return any(_is_whole(line) for _, line in head) or not head[0][1].startswith("{")


def _is_whole(line: str) -> bool:
    try:
        return isinstance(parse(line), dict)
    except JSONDecodeError:
        return False
    except ValueError:
        return True


def _lines(content: Content, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        if line:
            try:
                row = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                _refuse(content, f"line {number}", line, error)
            if not isinstance(row, dict):
                raise not_a_row(content, f"line {number}", f"a {type(row).__name__}")
            yield row


def _refuse(content: Content, place: str, text: str, error: Exception) -> NoReturn:
    if isinstance(error, JSONDecodeError):
        got = f"{text[error.pos : error.pos + 20]!r} ({error.msg})"
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            got += ", which ends in the middle of a row"
        elif not error.pos and place == "line 1":
            got += ", which may be the header of a table (then name it .csv) or a text (.txt)"
    elif isinstance(error, RecursionError):
        got = "a value that is nested too deeply"
    else:  # a key twice, or a number of thousands of digits
        got = f"a value that is {error}"
    raise not_a_row(content, place, got) from error


def not_a_row(content: Content, place: str, got: str) -> DataError:
    """The error for a part of a JSON file that is no row."""
    return DataError(
        f"{shown(content.name)}, {place}: cannot be read as a row; got {got}; wanted one JSON "
        "object a line, or one JSON array of objects; repair or remove it"
    )


class _Values:
    """The values of a text, parsed on a buffer that slides over it."""

    def __init__(self, content: Content, text: Any, notes: list[str]) -> None:
        self._content = content
        self._text = text
        self._notes = notes
        self._buffer = ""
        self._position = 0
        self._line = 1
        self._ended = False

    def rows(self) -> Iterator[Row]:
        """All rows of the text."""
        count = 0
        held: Row | None = None
        while start := self._peek():
            if start == "[":
                self._position += 1
                yield from self._items()
            elif start == "{" and not count:
                held = yield from self._wrapper()
            else:
                line = self._line_here()
                value = self._value()
                if not isinstance(value, dict):
                    raise not_a_row(self._content, f"line {line}", f"a {type(value).__name__}")
                if held is not None:
                    self._notes.append("JSON objects over several lines")
                    yield held
                    held = None
                yield value
            count += 1
        if held is not None:
            yield from rows_of_object(self._content.name, held, self._notes)

    def _items(self, unwrap: bool = False) -> Iterator[Row]:
        """The objects of an array behind its bracket."""
        for number in itertools.count(1):
            start = self._peek()
            if number > 1 and start == ",":
                self._position += 1
                start = self._peek()
            elif start not in ("]", "") and number > 1:
                self._fail("Expecting ',' delimiter")
            if start == "]":
                self._position += 1
                return
            if not start:
                self._fail("the array does not end: the file is cut")
            item = self._value(f"item {number}")
            if not isinstance(item, dict):
                raise not_a_row(self._content, f"item {number}", f"a {type(item).__name__}")
            inner = item.get("row") if unwrap and "row_idx" in item else None
            yield inner if isinstance(inner, dict) else item

    def _wrapper(self) -> Any:
        """One object, key by key, so that rows in a list under one of them can be streamed."""
        self._position += 1
        found: Row = {}
        streamed = ""
        if self._peek() == "}":
            self._position += 1
            return found
        while True:
            if self._peek() != '"':
                self._fail("Expecting property name enclosed in double quotes")
            key = self._value()
            if self._peek() != ":":
                self._fail("Expecting ':' delimiter")
            self._position += 1
            if key in found or key == streamed:
                self._fail(f"an object with a key twice: {listed([key])}")
            rows = key in WRAPPERS and not streamed and self._peek() == "["
            if rows and self._peek(1) == "{" and not self._is_row(found):
                streamed = key
                self._position += 1
                yield from self._items(unwrap=True)
            else:
                found[key] = self._value()
            following = self._peek()
            self._position += 1
            if following == "}":
                break
            if following != ",":
                self._position -= 1
                self._fail("Expecting ',' delimiter")
        if not streamed:
            return found
        beside = f"; beside it, not read: {listed(list(found))}" if found else ""
        self._notes.append(f"rows are the list {streamed!r} of one JSON object{beside}")
        return None

    @staticmethod
    def _is_row(found: Row) -> bool:
        """Whether an object is a row by the keys in front of a list."""
        return bool({"prompt", "messages", "conversations", "instruction", "question"} & {*found})

    def _peek(self, behind: int = 0) -> str:
        """The next character that is no space, or one behind it; empty at the end."""
        here = self._buffer[self._position : self._position + 1]
        if here and here not in _SPACE and not behind:
            return here
        while True:
            while self._position < len(self._buffer) and self._buffer[self._position] in _SPACE:
                self._position += 1
            place = self._position + behind
            while behind and place < len(self._buffer) and self._buffer[place] in _SPACE:
                place += 1
            if place < len(self._buffer):
                return self._buffer[place]
            if not self._more():
                return ""

    def _value(self, place: str = "") -> Any:
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except JSONDecodeError as error:
                behind = error.pos - self._position
                near = error.pos > len(self._buffer) - _NEAR
                if (near or error.msg.startswith("Unterminated")) and self._more():
                    continue
                self._position += behind
                self._fail(error.msg, error)
            except (ValueError, RecursionError) as error:
                where = place or f"line {self._line_here()}"
                _refuse(self._content, where, self._buffer[self._position :], error)
            whole = isinstance(value, dict | list | str)
            length = end - self._position
            if end > len(self._buffer) - _NEAR and not whole and self._more():
                continue  # a number may go on
            self._position += length
            return value

    def _more(self) -> bool:
        """Read on; what was parsed leaves the buffer."""
        if self._ended:
            return False
        kept = len(self._buffer) - self._position
        more = self._text.read(max(_READ, kept))  # doubles, so that a long value is no square
        self._ended = not more
        self._line += self._buffer.count("\n", 0, self._position)
        self._buffer = self._buffer[self._position :] + more
        self._position = 0
        if len(self._buffer) > 4 * LONGEST_LINE:
            raise DataError(
                f"{shown(self._content.name)}, line {self._line}: a JSON value of more than "
                f"{4 * LONGEST_LINE >> 20} MiB; wanted rows; write it as JSON lines"
            )
        return bool(more)

    def _line_here(self) -> int:
        return self._line + self._buffer.count("\n", 0, self._position)

    def _fail(self, message: str, error: Exception | None = None) -> NoReturn:
        got = f"{self._buffer[self._position : self._position + 20]!r} ({message})"
        if self._ended and self._position >= len(self._buffer.rstrip()):
            got += ", where the file ends"
        raise not_a_row(self._content, f"line {self._line_here()}", got) from error
