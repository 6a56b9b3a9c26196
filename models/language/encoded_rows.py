"""Training rows as tokens in an Arrow file, which the trainers read where it lies.

Rows are encoded once for one file, tokenizer and limit, piece by piece, by all of torch's threads;
a later training of the same rows finds them in the cache. The file is mapped into memory: of rows
that no step has read nothing is loaded, and what the system needs for others it takes back.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
from datasets import Dataset

from models.kept_files import open_kept
from models.language.tokenizer import encoding_identity
from models.progress import Meter
from models.rows import Row
from models.token_files import id_width

Encode: TypeAlias = Callable[[list[Row]], tuple[Mapping[str, Sequence[Any]], Mapping[str, int]]]
"""Makes columns of some rows, and counts what became of them."""

PIECE_BYTES = 2**20
"""Of the rows that are encoded at once, as JSON lines; a signal waits for no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRows:
    """What a training learns from.

    Attributes:
        rows: Mapped into memory.
        counts: What became of the rows of the file; `taken` of them are in, `others` not.
    """

    rows: Dataset
    counts: Mapping[str, int]

    def numbers(self, column: str) -> list[int]:
        """A column of whole numbers."""
        found: list[int] = np.asarray(self.rows.data.column(column)).tolist()
        return found


def encode_rows(
    path: Path,
    encode: Encode,
    columns: Mapping[str, pa.DataType],
    *,
    tokenizer: Any,
    settings: Mapping[str, Any],
    cache: Path,
    takes: Callable[[Row], bool] = lambda row: True,
    group: Callable[[Row], str] | None = None,
) -> EncodedRows:
    """Encode the rows of a file, or find that it was done.

    Args:
        encode: Called for about a megabyte of rows at a time.
        columns: Those that it makes.
        settings: All that they depend on beside file and tokenizer.
        cache: Folder for what is made from this file, named after the file's contents.
        takes: Whether a row is of use.
        group: Rows of one group come together, at the place of their first; groups are not divided.
    """
    schema = pa.schema(columns.items())
    identity = [
        encoding_identity(tokenizer), path.stat().st_size, dict(settings), str(schema),
        version("tokenizers"),
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    kept = cache / f"{path.stem}-{name}.arrow"

    def write(file: BinaryIO) -> Mapping[str, int]:
        counts: Counter[str] = Counter(taken=0, others=0)
        meter = Meter(f"tokenising {path.name}", path.stat().st_size / 1e6, "MB")
        with pa.ipc.new_stream(file, schema) as stream:
            for piece in _pieces(path, takes, group):
                made, found = encode(piece.rows)
                stream.write_batch(pa.record_batch(dict(made), schema=schema))
                counts.update(found)
                counts.update(taken=len(piece.rows), others=piece.others)
                meter.add(piece.bytes / 1e6)
        return dict(counts)

    file, counts = open_kept(kept, write)
    with file:
        return EncodedRows(rows=Dataset.from_file(str(kept)), counts=Counter(counts))


def token_type(tokenizer: Any) -> pa.DataType:
    """Of a row's tokens: the smallest numbers that hold all ids."""
    width = id_width(tokenizer.backend_tokenizer, tokenizer.eos_token_id)
    return pa.list_(pa.uint16() if width == 2 else pa.int32())


@dataclass(slots=True)
class _Piece:
    rows: list[Row]
    others: int = 0
    bytes: int = 0


def _pieces(
    path: Path, takes: Callable[[Row], bool], group: Callable[[Row], str] | None
) -> Iterator[_Piece]:
    piece = _Piece([])
    with path.open("rb") as file:
        for lines in ([line] for line in file) if group is None else _grouped(path, file, group):
            for line in lines:
                row = json.loads(line)
                if takes(row):
                    piece.rows.append(row)
                else:
                    piece.others += 1
                piece.bytes += len(line)
            if piece.bytes >= PIECE_BYTES:
                yield piece
                piece = _Piece([])
    if piece.bytes:
        yield piece


def _grouped(path: Path, file: BinaryIO, group: Callable[[Row], str]) -> Iterator[list[bytes]]:
    """The lines of each group, in the order of their first ones."""
    starts, groups = array("Q"), array("Q")
    meter = Meter(f"grouping {path.name}", path.stat().st_size / 1e6, "MB")
    start = 0
    for line in file:
        starts.append(start)
        key = hashlib.sha256(group(json.loads(line)).encode()).digest()
        groups.append(int.from_bytes(key[:8], "big"))
        start += len(line)
        meter.add(len(line) / 1e6)
    _, first, which = np.unique(
        np.frombuffer(groups, np.uint64), return_index=True, return_inverse=True
    )
    order = np.lexsort((np.arange(len(starts)), first[which]))
    ends = np.flatnonzero(np.diff(first[which][order], append=-1))
    for rows in np.split(order, ends[:-1] + 1) if len(order) else ():
        lines = []
        for row in rows.tolist():
            file.seek(starts[row])
            lines.append(file.readline())
        yield lines
