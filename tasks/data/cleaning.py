"""What no text may hold, whatever it came from: removed from every value of a canonical row.

ANSI escapes (logs pasted into answers) go. A stray \\x85 becomes a space: it is mostly a
mis-decoded ellipsis, and many tools take it for the end of a line. A lone surrogate, which UTF-8
cannot hold, becomes U+FFFD. Everything else stays byte for byte, spaces at the ends included.
"""

import re
from typing import Any

from tasks.data.formats import Row

_SUSPECT = re.compile("[\x1b\x85\ud800-\udfff]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\x1b")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")


def clean_text(text: str) -> str:
    """Remove ANSI escapes, stray \\x85 and lone surrogates."""
    if not _SUSPECT.search(text):
        return text
    return _SURROGATE.sub("\ufffd", _ANSI.sub("", text).replace("\x85", " "))


def clean_row(row: Row) -> Row:
    """Clean all texts of a canonical row, those in messages included."""
    return {column: _clean(value) for column, value in row.items()}


def has_placeholder(row: Row) -> bool:
    """Say whether a text of the row still holds a template's ``{{name}}``."""
    return any(_PLACEHOLDER.search(text) for text in _texts(row))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [message | {"content": clean_text(message["content"])} for message in value]
    return value


def _texts(row: Row) -> list[str]:
    texts: list[str] = []
    for value in row.values():
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            texts += [message["content"] for message in value]
    return texts
