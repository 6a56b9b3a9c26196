"""Canonical rows on disk, and in memory only what decides about them.

Preparation reads every raw row once. What it makes of it goes to a spool, one JSON line a row; in
memory stay about thirty bytes a row: hashes of what must be on one side of the split and of the
whole content, the length of each text, the row's number in its file (and as many again while it is
decided which rows are taken). So the memory that a preparation takes does not grow with the texts.

Hashes are the first 8 bytes of a sha256. Two different rows are taken for one with a probability of
n²/2^65 in n rows: 3 in 100 million for a million rows, 3 in 10,000 for a hundred million.
"""

import bisect
import itertools
import json
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.progress import told
from tasks.data.formats import Collection, Row
from tasks.data.quality import size
from tasks.data.split import Keys, content_key, group_key, hashed, is_turned
from tasks.data.tally import FileTally

TURNED, TIED, BEATEN = 1, 2, 4
"""Flags of a pair: which of its texts is chosen, whether neither is, and whether a better one is
known from the same ranking."""

FILLED = {"margin": 0.0, "tie": False}
"""Columns that every pair gets if one has it, and what the others get: it changes no loss."""
_BUFFER = 2**20


class Spool:
    """Rows of one collection in the order in which they were read.

    Attributes:
        lengths: Characters of each text column.
        messages: Rows of which the prompt is messages.
        texts: Rows of which the prompt is text.
        numbers: Rows with a margin, and with a tie column.
    """

    def __init__(self, path: Path, collection: Collection) -> None:
        """Begin an empty one; the file is written while rows are added."""
        self.collection = collection
        self.lengths: dict[str, array[int]] = {}
        self.messages = self.texts = self.bytes = 0
        self.numbers = dict.fromkeys(FILLED, 0)
        self._path = path
        self._file: BinaryIO | None = None
        self._groups, self._contents = array("Q"), array("Q")
        self._ends, self._places = array("Q"), array("I")
        self._flags = bytearray()
        self._starts: list[int] = []
        self._files: list[FileTally] = []

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def groups(self) -> Keys:
        """Hash of each row's text or prompt, see `split.group_key`."""
        return np.frombuffer(self._groups, np.uint64)

    @property
    def contents(self) -> Keys:
        """Hash of each row's whole content, see `split.content_key`."""
        return np.frombuffer(self._contents or self._groups, np.uint64)

    @property
    def flags(self) -> NDArray[np.uint8]:
        """`TURNED`, `TIED`, `BEATEN` of each row."""
        return np.frombuffer(self._flags, np.uint8)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each row's line."""
        ends = np.frombuffer(self._ends, np.uint64).astype(np.int64)
        ends[1:] -= ends[:-1].copy()
        return ends

    def begin(self, file: FileTally) -> None:
        """Note that the rows added from now on are from another file."""
        self._starts.append(len(self))
        self._files.append(file)

    def add(self, place: int, row: Row, *, beaten: bool = False) -> None:
        """Add a canonical row.

        Args:
            place: Number of the raw row in its file.
            beaten: Whether its chosen completion lost to another one of the same ranking.
        """
        group = group_key(self.collection, row)
        is_text = self.collection == "corpus"  # whose only value is written already
        line = f'{{"text": {group}}}' if is_text else json.dumps(row, ensure_ascii=False)
        data = line.encode() + b"\n"
        if self._file is None:
            self._file = self._path.open("wb", buffering=_BUFFER)
        self._file.write(data)
        self.bytes += len(data)
        self._ends.append(self.bytes)
        self._places.append(place)
        self._groups.append(hashed(group))
        if self.collection in ("demonstrations", "preferences"):
            self._contents.append(hashed(content_key(self.collection, row)))
        tied = bool(row.get("tie"))
        turned = self.collection == "preferences" and not tied and is_turned(row)
        self._flags.append(TURNED * turned + TIED * tied + BEATEN * beaten)
        for column, value in row.items():
            if column in FILLED:
                self.numbers[column] += 1
            else:
                self.lengths.setdefault(column, array("I")).append(size(value))
        if "prompt" in row:
            is_text = isinstance(row["prompt"], str)
            self.texts += is_text
            self.messages += not is_text

    def rewritten(self, change: Callable[[Row], Row]) -> "Spool":
        """A spool of the same rows in another form; this one's file is removed."""
        spool = Spool(self._path.with_suffix(".changed"), self.collection)
        starts = dict(zip(self._starts, self._files, strict=True))
        for index, line in self.lines(np.ones(len(self), np.uint16)):
            if index in starts:
                spool.begin(starts[index])
            beaten = bool(self._flags[index] & BEATEN)
            spool.add(self._places[index], change(json.loads(line)), beaten=beaten)
        self.remove()
        return spool

    def lines(self, times: NDArray[np.uint16]) -> Iterator[tuple[int, bytes]]:
        """Read rows in order, with their index.

        Args:
            times: How often each row is wanted: first all rows that are wanted once or more often,
                then those that are wanted twice or more often, and so on.
        """
        self._close()
        for epoch in itertools.count():
            wanted = np.flatnonzero(times > epoch)
            if not len(wanted):
                return
            first, last = int(wanted[0]), int(wanted[-1])
            taken = (times[first : last + 1] > epoch).tobytes()
            with self._path.open("rb", buffering=_BUFFER) as file:
                file.seek(self._ends[first - 1] if first else 0)
                lines = told(file, f"going through {self.collection}", len(taken), "rows")
                for index, (line, is_taken) in enumerate(zip(lines, taken, strict=False), first):
                    if is_taken:
                        yield index, line

    def row(self, index: int) -> Row:
        """Read one row."""
        self._close()
        with self._path.open("rb") as file:
            file.seek(self._ends[index - 1] if index else 0)
            row: Row = json.loads(file.readline())
        return row

    def origin(self, index: int) -> tuple[FileTally, int]:
        """The file of a row and its number there."""
        return self._files[bisect.bisect_right(self._starts, index) - 1], self._places[index]

    def files(self) -> Iterator[tuple[FileTally, slice]]:
        """The files that rows are from, and which rows; perhaps none."""
        stops = [*self._starts[1:], len(self)]
        for file, start, stop in zip(self._files, self._starts, stops, strict=True):
            yield file, slice(start, stop)

    def remove(self) -> None:
        """Remove its file."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
