"""The rows of a canonical file with where they begin: all of them, or a sample by content.

Memory and time are bounded: of a file with more than `MOST_BYTES` or `MOST_ROWS`, rows are taken
by a hash of their content, so the sample is the same whatever their order.
"""

import heapq
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.data.formats import Row

MOST_BYTES = 256 * 2**20
"""Of a file; some ten seconds of one core."""
MOST_ROWS = 120_000
"""Of a file; some hundred bytes of memory each."""
MOST_SAMPLED_BYTES = 32 * 2**20
"""Of the rows that are held in memory at once."""
_FIRST_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRow:
    """A row, the byte at which it begins, its bytes, and a hash of its content, in [0, 2**32)."""

    row: Row
    offset: int
    size: int
    position: int


def sample_share(path: Path) -> float:
    """The share of a file's rows that is looked at."""
    size = path.stat().st_size
    with path.open("rb") as lines:
        first = [len(line) for line in itertools.islice(lines, _FIRST_ROWS)]
    rows = size * len(first) / sum(first) if first else 0
    return min(1.0, MOST_BYTES / max(1, size), MOST_ROWS / max(1.0, rows))


def placed_rows(path: Path, share: float = 1.0) -> Iterator[PlacedRow]:
    """Read the rows of a file, or a share of them."""
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            position = zlib.crc32(line)
            if position < share * 2**32:
                row = json.loads(line.decode())
                yield PlacedRow(row=row, offset=offset, size=len(line), position=position)
            offset += len(line)


def first_rows(path: Path, most: int) -> Iterator[PlacedRow]:
    """Read the first rows of a file, fewer where they are long."""
    size = 0
    for placed in itertools.islice(placed_rows(path), most):
        size += placed.size
        yield placed
        if size > MOST_SAMPLED_BYTES:
            return


def rows_at(path: Path, offsets: Iterable[int]) -> Iterator[Row]:
    """Read the rows that begin at some bytes of a file."""
    with path.open("rb") as lines:
        for offset in offsets:
            lines.seek(offset)
            yield json.loads(lines.readline())


class SmallSample:
    """The places of the rows with the smallest hashes: a few rows of a file, by content."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, int, int]] = []

    def add(self, row: PlacedRow) -> None:
        """Take a row if it belongs to the sample so far."""
        entry = (-row.position, row.offset, row.size)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def offsets(self) -> list[int]:
        """Where the rows begin, in the order of the file; fewer where they are long."""
        found, size = [], 0
        for _, offset, bytes_ in sorted(self._heap, reverse=True):
            found.append(offset)
            size += bytes_
            if size > MOST_SAMPLED_BYTES:
                break
        return sorted(found)
