"""The quality report: what was read, what was kept, what was dropped and why.

It is logged and stored beside the datasets; `tasks/reports/data.py` writes it for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tasks.data.formats import Collection, Row
from tasks.data.quality import Tally, size
from tasks.data.split import Sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Characters of the texts of one column."""

    median: float
    p95: float
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionReport:
    """One collection: read == train + heldout + the sum of dropped."""

    name: Collection
    sources: tuple[str, ...]
    read: int
    train: int
    heldout: int
    dropped: Mapping[str, int]
    cleaned: int
    placeholders: int
    lengths: Mapping[str, Lengths]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationReport:
    """All collections of one preparation.

    Attributes:
        source: The kind of source: world, folder or hub.
        fingerprint: Names the content that was read, see `sources.fingerprint`.
        conversational: Whether prompts and completions are messages (or plain texts).
        collections: One report each.
        contrasts: Pairs that differ in one respect, beside the collections.
        overlaps: Held-out rows whose content stands in the training rows of *another* collection.
    """

    source: str
    fingerprint: str
    conversational: bool
    collections: tuple[CollectionReport, ...]
    contrasts: int
    overlaps: Mapping[str, int]

    def metrics(self) -> dict[str, float]:
        """Give flat numbers for tracking, such as ``data/corpus_rows``."""
        metrics: dict[str, float] = {}
        for each in self.collections:
            metrics[f"data/{each.name}_rows"] = float(each.train)
            metrics[f"data/{each.name}_heldout_rows"] = float(each.heldout)
            metrics[f"data/{each.name}_dropped_rows"] = float(sum(each.dropped.values()))
        metrics["data/contrasts_rows"] = float(self.contrasts)
        return metrics

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def measure_lengths(rows: Sequence[Row]) -> dict[str, Lengths]:
    """Measure every text column of canonical rows in characters."""
    columns = [column for column in rows[0] if column != "margin"] if rows else []
    lengths = {}
    for column in columns:
        sizes = np.array([size(row[column]) for row in rows])
        median, p95 = np.percentile(sizes, (50, 95))
        lengths[column] = Lengths(median=float(median), p95=float(p95), maximum=int(sizes.max()))
    return lengths


def report_collection(name: Collection, tally: Tally, sides: Sides) -> CollectionReport:
    """Close the count of one collection."""
    return CollectionReport(
        name=name,
        sources=tuple(tally.labels),
        read=tally.read,
        train=len(sides.train),
        heldout=len(sides.heldout),
        dropped=dict(tally.dropped.most_common()),
        cleaned=tally.cleaned,
        placeholders=tally.placeholders,
        lengths=measure_lengths([*sides.train, *sides.heldout]),
    )
