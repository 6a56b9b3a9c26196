"""From raw rows to spools in one form: the only pass over what people brought."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from tasks.data.config import DataConfig
from tasks.data.formats import COLLECTIONS, Collection, Row, as_messages
from tasks.data.quality import admit
from tasks.data.report import OnProgress, Progress
from tasks.data.sources import RawData, RawRows
from tasks.data.spools.spool import FILLED, Spool
from tasks.data.tally import FileTally, Tally

_PROGRESS_SECONDS = 0.5

Spools = dict[Collection, Spool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """Canonical rows by collection, in one form; `heldout` only where the source gives it."""

    folder: Path
    train: Spools
    heldout: Spools
    contrasts: list[Row]
    tallies: dict[Collection, Tally]
    conversational: bool

    def new(self, collection: Collection, side: str) -> Spool:
        """An empty spool in the same folder."""
        return Spool(self.folder / f"{collection}_{side}_derived", collection)


@dataclass(slots=True)
class Meter:
    """Tells how far a preparation is, about twice a second."""

    tell: OnProgress
    total: int
    _rows: int = 0
    _bytes: int = 0
    _done: int = 0
    _next: float = field(default_factory=time.monotonic)

    def count(self, part: RawRows, rows: int, size: int) -> None:
        """Count rows of a file and the bytes of what they became."""
        self._rows += rows
        self._bytes += size
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            done = self._done + getattr(part.rows, "position", int)()
            share = min(1.0, done / self.total) if self.total else None
            progress = Progress(label=part.label, rows=self._rows, bytes=self._bytes, share=share)
            self.tell(progress)

    def end(self, part: RawRows) -> None:
        """Count a file as read."""
        self._done += part.bytes


def spool_rows(config: DataConfig, raw: RawData, folder: Path, tell: OnProgress) -> Spooled:
    """Convert, clean and judge all rows, and bring them to one form.

    Args:
        folder: For the spools' files.
        tell: Is told how far it is.

    Raises:
        DataError: A file cannot be read, or is not what it is taken for.
    """
    tallies: dict[Collection, Tally] = {collection: Tally() for collection in COLLECTIONS}
    meter = Meter(tell, sum(part.bytes for part in raw.parts))
    sides: tuple[Spools, Spools] = ({}, {})
    for part in sorted(raw.parts, key=lambda part: COLLECTIONS.index(part.collection)):
        spools = sides[part.heldout]
        name, side = part.collection, "heldout" if part.heldout else "train"
        spool = spools.setdefault(name, Spool(folder / f"{name}_{side}", name))
        _spool_file(spool, part, tallies[name], config, meter)
    train, heldout = sides
    form = _Form.of([*train.values(), *heldout.values()])
    return Spooled(
        folder=folder,
        train={each: form.brought(spool) for each, spool in train.items()},
        heldout={each: form.brought(spool) for each, spool in heldout.items()},
        contrasts=[form.row(row) for row in raw.contrasts],
        tallies=tallies,
        conversational=form.messages,
    )


def _spool_file(
    spool: Spool, part: RawRows, tally: Tally, config: DataConfig, meter: Meter
) -> None:
    file = FileTally(label=part.label, source=part.source, heldout=part.heldout, notes=part.notes)
    spool.begin(file)
    size, read = spool.bytes, 0
    rows = admit(spool.collection, part.rows, file=file, tally=tally, config=config)
    for number, several in rows:
        lost = _losers(several) if len(several) > 1 else ()
        for row in several:
            spool.add(number, row, beaten=bool(lost) and _key(row, "chosen") in lost)
        meter.count(part, file.read - read, spool.bytes - size)
        size, read = spool.bytes, file.read
    meter.end(part)


def _losers(rows: list[Row]) -> set[str]:
    """The completions of a ranking that lost to another one, with their prompts."""
    return {_key(row, "rejected") for row in rows if "rejected" in row and not row.get("tie")}


def _key(row: Row, column: str) -> str:
    return json.dumps([row["prompt"], row[column]], ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Form:
    """The form that all rows get: texts or messages, and the columns that every pair has."""

    messages: bool
    numbers: tuple[str, ...]

    @classmethod
    def of(cls, spools: list[Spool]) -> "_Form":
        numbers = [name for name in FILLED if any(spool.numbers[name] for spool in spools)]
        return cls(any(spool.messages for spool in spools), tuple(numbers))

    def row(self, row: Row) -> Row:
        """A row in this form."""
        return as_messages(row) if self.messages else row

    def pair(self, row: Row) -> Row:
        """A pair in this form."""
        texts = {column: value for column, value in row.items() if column not in FILLED}
        return self.row(texts) | {name: row.get(name, FILLED[name]) for name in self.numbers}

    def brought(self, spool: Spool) -> Spool:
        """A spool of rows in this form, the same one if they are."""
        pairs = spool.collection == "preferences"
        if (self.messages and spool.texts) or (
            pairs and any(spool.numbers[name] < len(spool) for name in self.numbers)
        ):
            return spool.rewritten(self.pair if pairs else self.row)
        return spool
