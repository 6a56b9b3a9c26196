"""Single values: texts, numbers, words for yes and no, and lists that stand as text in a cell."""

import ast
import contextlib
import json
import math
import re
from typing import Any

from models.files import parse_json
from tasks.data.conversion.records import RowProblem

_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "keys"}

_WHOLE = re.compile(r"(?<=\d)\.0+$")
"""How a table writes that a number is whole."""

YES = frozenset({"true", "yes", "1", "+1", "good", "up", "thumbs_up", "desirable", "like", "liked"})
NO = frozenset(
    {"false", "no", "0", "-1", "bad", "down", "thumbs_down", "undesirable", "dislike", "disliked"}
)


_UNKNOWN = frozenset({"n/a", "na", "null", "none", "unknown", "-", "?"})
"""Words in the place of a number that is not known."""


def is_absent(value: object) -> bool:
    """Whether a cell holds nothing: null, NaN, an empty text or list."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and math.isnan(value)) or value in ([], {})


def text_cell(value: object, column: str) -> str:
    """The text of a cell that has to hold one.

    Raises:
        RowProblem: It holds nothing, or something else.
    """
    if isinstance(value, str):
        return value
    if is_absent(value):
        raise RowProblem(f"empty {column}")
    raise RowProblem(f"wrong type: {column} is {_KINDS.get(type(value), 'a value')}, not text")


def word(value: object) -> str:
    """A cell as one word in lower case, for comparison with known words."""
    text = _WHOLE.sub("", str(value).strip().lower())
    return "_".join((text[:1] + text[1:].replace("-", " ")).split())  # the sign of -1 stays


def number(value: object, column: str) -> float | None:
    """The number of a cell, also as text; None where it holds nothing.

    Raises:
        RowProblem: It holds something else, or infinity.
    """
    if is_absent(value) or (isinstance(value, str) and value.strip().lower() in _UNKNOWN):
        return None
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            found = float(value)  # type: ignore[arg-type]
            if math.isfinite(found):
                return found
            if math.isnan(found):
                return None
    raise RowProblem(f"{column} is not a number")


def unpacked(value: object) -> Any:
    """The list or object that a cell holds as text, in JSON or as Python prints it.

    Other values are returned as they are; so is text that only looks like one.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not (text.startswith(("[", "{")) and text.endswith(("]", "}"))):
        return value
    try:
        return parse_json(text)
    except (json.JSONDecodeError, ValueError):
        pass
    if "'" not in text:
        return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return value
