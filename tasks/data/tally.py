"""Counts of what happens to rows on their way from a file to a dataset, and the report of them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from models.files import shown
from tasks.data.formats import Collection
from tasks.data.report import CollectionReport, Example, Lengths, SourceReport

DUPLICATE = "duplicate"
BOTH_DIRECTIONS = "the pair stands in both directions"
HELD_OUT = "held-out row in training"

MOST_EXAMPLES = 3
_SHOWN = 1000
"""Characters of a row that are looked at for an example."""


@dataclass(slots=True, kw_only=True)
class FileTally:
    """Counts what happens to the rows of one file, see `SourceReport`."""

    label: str
    source: str = ""
    heldout: bool = False
    read: int = 0
    kept: int = 0
    unreadable: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Sequence[str] = ()
    epochs: float = 1.0

    def report(self) -> SourceReport:
        """What the report says of this file."""
        return SourceReport(
            label=self.label,
            source=self.source,
            heldout=self.heldout,
            read=self.read,
            kept=self.kept,
            formats=dict(self.formats.most_common()),
            notes=tuple(self.notes),
            unread=dict(self.unread.most_common()),
            dropped=dict(self.dropped.most_common()),
            epochs=self.epochs,
        )


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts what happens to the rows of one collection, from every file it is read from."""

    labels: list[str] = field(default_factory=list)
    read: int = 0
    expanded: int = 0
    repeated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cleaned: int = 0
    placeholders: int = 0
    mojibake: int = 0
    controls: int = 0
    entities: int = 0
    files: list[FileTally] = field(default_factory=list)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def drop(self, reason: str, rows: int = 1) -> None:
        """Count dropped rows; a reason without rows is not listed."""
        if rows:
            self.dropped[reason] += rows

    def report(
        self,
        name: Collection,
        *,
        train: int,
        heldout: int,
        lengths: Mapping[str, ArrayLike],
    ) -> CollectionReport:
        """The report of one collection.

        Args:
            train: Rows that are written to train on.
            heldout: Rows that are written to measure on.
            lengths: Characters of the texts of each column.
        """
        return CollectionReport(
            name=name,
            sources=tuple(self.labels),
            read=self.read,
            expanded=self.expanded,
            repeated=self.repeated,
            train=train,
            heldout=heldout,
            dropped=dict(self.dropped.most_common()),
            cleaned=self.cleaned,
            placeholders=self.placeholders,
            mojibake=self.mojibake,
            controls=self.controls,
            entities=self.entities,
            lengths={column: measure_lengths(sizes) for column, sizes in lengths.items()},
            files=tuple(file.report() for file in self.files),
            examples={reason: tuple(rows) for reason, rows in self.examples.items()},
        )

    def show(self, reason: str, file: FileTally, number: int, row: Mapping[str, Any] | str) -> None:
        """Keep a row, or the part of it that matters, as an example, if there are too few yet."""
        examples = self.examples.setdefault(reason, [])
        if len(examples) < MOST_EXAMPLES:
            text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
            text = shown(text[:_SHOWN])
            examples.append(Example(file=shown(file.label), row=number, text=text))


def measure_lengths(characters: ArrayLike) -> Lengths:
    """Median, 95% and the longest of the texts of a column, at least one."""
    sizes = np.asarray(characters, np.int64)
    median, p95 = np.percentile(sizes, (50, 95))
    return Lengths(median=float(median), p95=float(p95), maximum=int(sizes.max()))
