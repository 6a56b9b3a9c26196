"""Rows of one JSON object that holds them in columns, as pandas and datasets write tables."""

from collections.abc import Iterator
from typing import Any

from models.errors import DataError
from models.files import listed, shown

Row = dict[str, Any]

_MANY = 5
"""Objects of the same keys that are rows, whatever the keys are under which they stand."""


def rows_of_object(name: str, value: Row, notes: list[str]) -> Iterator[Row]:
    """Turn a file's only object into rows: a table by columns or by rows, or one row.

    Raises:
        DataError: Its columns differ in length.
    """
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        notes.append("a table written by pandas (orient 'split')")
        yield from _split(name, value["columns"], value["data"])
        return
    inner = list(value.values())
    if inner and all(isinstance(one, dict) and one for one in inner):
        if all(key.isdigit() for one in inner for key in one):
            notes.append("a table written by pandas (orient 'columns')")
            yield from _columns(name, {key: [*one.values()] for key, one in value.items()},
                                [list(one) for one in inner])  # fmt: skip
            return
        same = all(one.keys() == inner[0].keys() for one in inner)
        if all(key.isdigit() for key in value) or (same and len(inner) >= _MANY):
            notes.append("rows are the values of one JSON object, without its keys")
            yield from inner
            return
    if inner and all(_is_column(one) for one in inner):
        notes.append("a table of one list for each column")
        yield from _columns(name, value, [[]])
        return
    yield value


def _is_column(value: Any) -> bool:
    """A list of texts or of conversations; a list of messages belongs to one row."""
    return (
        isinstance(value, list)
        and bool(value)
        and any(isinstance(one, str | list) for one in value)
        and all(one is None or isinstance(one, str | list | int | float) for one in value)
    )


def _columns(name: str, columns: dict[str, list[Any]], indices: list[list[str]]) -> Iterator[Row]:
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1 or any(index != indices[0] for index in indices):
        shape = ", ".join(f"{shown(key)} {length}" for key, length in lengths.items())
        raise DataError(
            f"{shown(name)} holds columns of different rows: got {shape}; wanted the same rows in "
            "each; write the table again, as JSON lines"
        )
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _split(name: str, columns: list[Any], data: list[Any]) -> Iterator[Row]:
    names = [str(column) for column in columns]
    if len(set(names)) != len(names):
        raise DataError(f"{shown(name)} has a column twice: {listed(names)}; rename one of them")
    for number, values in enumerate(data, 1):
        if not isinstance(values, list) or len(values) != len(names):
            raise DataError(
                f"{shown(name)}, row {number}: got {len(values) if isinstance(values, list) else 1}"
                f" cells; wanted {len(names)} ({listed(names)}); repair or remove it"
            )
        yield dict(zip(names, values, strict=True))
