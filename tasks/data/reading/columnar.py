"""Rows of parquet and Arrow files, a few at a time, as JSON can hold them."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from models.errors import DataError
from models.files import listed, reading, shown
from tasks.data.reading.json_rows import Row
from tasks.data.reading.packing import Content

BATCH_ROWS = 256
"""Few, so that a file that unpacks to more than it says is noticed early."""


def read_columnar(content: Content, container: str) -> Iterator[Row]:
    """Read the rows of a parquet or Arrow file.

    Raises:
        DataError: It is damaged or no such file, has a column twice, or unpacks to too much.
    """
    import pyarrow

    wanted = f"a whole {container} file"
    with reading(content.name, wanted):
        file = content.seekable()
        packed = file.seek(0, os.SEEK_END)
        file.seek(0)
        guard = content.guard()
        guard.packed_bytes = packed
        schema, batches = _opened(file, container)
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise DataError(
                f"{shown(content.name)} has a column twice: {listed(twice)}; wanted each name "
                "once; rename or remove one of them"
            )
        plain = all(_is_plain(field.type, pyarrow.types) for field in schema)
    while True:
        with reading(content.name, wanted):
            batch = next(batches, None)
            if batch is None:
                return
            guard.count(sum(map(_size, batch.columns)), rows=batch.num_rows)
            rows: list[Row] = batch.to_pylist()
            if not plain:
                rows = [for_json(row) for row in rows]
        yield from rows


def _opened(file: Any, container: str) -> tuple[Any, Iterator[Any]]:
    import pyarrow.parquet

    if container == "parquet":
        found = pyarrow.parquet.ParquetFile(file)
        return found.schema_arrow, found.iter_batches(BATCH_ROWS)
    if file.read(6) == b"ARROW1":
        file.seek(0)
        whole = pyarrow.ipc.open_file(file)
        return whole.schema, _pieces(map(whole.get_batch, range(whole.num_record_batches)))
    file.seek(0)
    stream = pyarrow.ipc.open_stream(file)
    return stream.schema, _pieces(stream)


def _pieces(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of a few rows: an Arrow file may have all its rows in one."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _size(column: Any) -> int:
    """The bytes of a column whose words stand once in the file, but in every row here."""
    whole = column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
    return int(whole.nbytes)


def _is_plain(kind: Any, types: Any) -> bool:
    """Whether Python's values of a type are those of JSON."""
    if types.is_struct(kind):
        return all(_is_plain(kind.field(index).type, types) for index in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type, types)
    if types.is_dictionary(kind):
        return _is_plain(kind.value_type, types)
    return any(
        test(kind)
        for test in (
            types.is_string, types.is_large_string, types.is_integer, types.is_floating,
            types.is_boolean, types.is_null,
        )
    )  # fmt: skip


def for_json(value: Any) -> Any:
    """A value as JSON can hold it: moments as ISO 8601, numbers as numbers, bytes as their text.

    Bytes that are no text stay bytes, such as those of pictures in a column that nobody reads.
    """
    import decimal

    if isinstance(value, dict):
        return {str(key): for_json(one) for key, one in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(one, tuple) and len(one) == 2 for one in value):  # a map
            return {str(key): for_json(one) for key, one in value}
        return [for_json(one) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
