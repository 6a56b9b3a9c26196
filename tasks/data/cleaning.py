"""What is removed from texts, and what is only noticed in them and reported.

Nothing else is changed: an invisible character can be meant, and so can a reference of HTML.
"""

import re
from collections.abc import Iterator
from typing import Any

from tasks.data.formats import Row
from tasks.data.reading.mojibake import mojibake
from tasks.data.report import CONTROLS, ENTITIES, MOJIBAKE, PLACEHOLDER, REMOVED

_SUSPECT = re.compile("[\x1b\x85\ud800-\udfff]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\x1b")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_CONTROL_BYTES = bytes({*range(32), 127} - {*b"\t\n\v\f\r"})
_ENTITY = re.compile("&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,5});")

_AROUND = 60
"""Characters on each side of what is shown of a text."""


def _is_suspect(text: str) -> bool:
    """Whether `_SUSPECT` finds something, twenty times as fast."""
    if "\x1b" in text or text.isascii():
        return "\x1b" in text
    try:
        return "\x85" in text or not text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return True


def _has_controls(text: str) -> bool:
    """Whether `_CONTROL` finds something, several times as fast."""
    data = text.encode()
    if len(data.translate(None, _CONTROL_BYTES)) < len(data):
        return True
    return (
        not text.isascii()
        and (b"\xe2\x80" in data or b"\xe2\x81" in data)
        and (_CONTROL.search(text) is not None)
    )


def clean_text(text: str) -> str:
    """Remove ANSI escapes, stray \\x85 and lone surrogates."""
    if not _is_suspect(text):
        return text
    return _SURROGATE.sub("\ufffd", _ANSI.sub("", text).replace("\x85", " "))


def clean_row(row: Row) -> Row:
    """Clean all texts of a canonical row, those in messages included."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, list):
            return [message | {"content": clean_text(message["content"])} for message in value]
        return value

    return {column: clean(value) for column, value in row.items()}


def findings(before: Row, row: Row) -> Iterator[tuple[str, str]]:
    """What a person should look at in a row that is kept.

    Args:
        before: The row before it was cleaned.

    Yields:
        A finding, such as `REMOVED`, and what stands around its first place.
    """
    if row != before:
        yield REMOVED, _around(_SUSPECT, before)
    if has_placeholder(row):
        yield PLACEHOLDER, _around(_PLACEHOLDER, row)
    garbled = next(filter(None, map(mojibake, _texts(row))), None)
    if garbled is not None:
        yield MOJIBAKE, garbled
    if any(map(_has_controls, _texts(row))):
        yield CONTROLS, _around(_CONTROL, row)
    if any("&" in text and _ENTITY.search(text) for text in _texts(row)):
        yield ENTITIES, _around(_ENTITY, row)


def has_placeholder(row: Row) -> bool:
    """Whether a text of the row still holds a template's ``{{name}}``."""
    return any("{{" in text and _PLACEHOLDER.search(text) for text in _texts(row))


def _texts(row: Row) -> Iterator[str]:
    for value in row.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (message["content"] for message in value)


def _around(pattern: re.Pattern[str], row: Row) -> str:
    """What stands around the first place where a row's texts match a pattern."""
    for text in _texts(row):
        if found := pattern.search(text):
            return text[max(0, found.start() - _AROUND) : found.end() + _AROUND]
    return ""
