"""The quality report: what was read, what was kept, what was dropped and why.

The prepare stage ends with it: it is logged, shown and stored beside the datasets.
"""

from collections.abc import Iterable, Mapping, Sequence
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

    def to_markdown(self) -> str:
        """Give the report as people read it."""
        form = "messages" if self.conversational else "plain texts"
        parts = [
            "# Data",
            f"Source: {self.source}. Prompts and completions are {form}.",
            _table(
                ("collection", "read", "train", "held out", "dropped", "from"),
                (
                    (c.name, c.read, c.train, c.heldout, sum(c.dropped.values()), _names(c))
                    for c in self.collections
                ),
            ),
            "## Dropped, by reason",
            _table(
                ("collection", "reason", "rows"),
                ((c.name, *drop) for c in self.collections for drop in c.dropped.items()),
            ),
            "## Lengths in characters",
            _table(
                ("collection", "column", "median", "95%", "longest"),
                (
                    (c.name, column, f"{n.median:.0f}", f"{n.p95:.0f}", n.maximum)
                    for c in self.collections
                    for column, n in c.lengths.items()
                ),
            ),
            "## Notes",
            "\n".join(f"- {note}" for note in self._notes()),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _notes(self) -> list[str]:
        notes = [f"{rows} {what}" for what, rows in self.overlaps.items() if rows]
        for each in self.collections:
            if each.cleaned:
                notes.append(f"{each.cleaned} {each.name} rows freed of control characters")
            if each.placeholders:
                notes.append(f"{each.placeholders} {each.name} rows hold a {{{{placeholder}}}}")
        if self.contrasts:
            notes.append(f"{self.contrasts} contrasts: pairs that differ in one respect")
        return notes or ["none"]


def _names(report: CollectionReport) -> str:
    return ", ".join(report.sources) or "nothing"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    rule = f"|{'---|' * len(header)}"
    return "\n".join([f"| {' | '.join(header)} |", rule, *lines]) if lines else "none"


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
