"""The quality report: what was read, what it was taken for, what was kept, and why not the rest.

`build` writes it as ``quality.json``: these dataclasses as JSON, so their names are its keys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tasks.data.formats import Collection
from tasks.data.inspection.records import Inspection

REMOVED = "control characters were removed"
MOJIBAKE = "the text was decoded wrongly once (mojibake)"
CONTROLS = "the text has control characters, such as NUL or a change of writing direction"
ENTITIES = "the text has references of HTML, such as &amp;"
PLACEHOLDER = "the text holds a {{placeholder}}"
"""Findings: rows that are kept, but that a person should look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Characters of the texts of one column."""

    median: float
    p95: float
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row behind a count.

    Attributes:
        file: Label of its file.
        row: Its number among the rows of that file, from 1.
        text: Its beginning, as foreign text in one line.
    """

    file: str
    row: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One file (or split of a hub dataset) that was read for a collection.

    Attributes:
        label: The file's name.
        source: What named it: an entry of ``data.corpus`` and its like, or the folder.
        heldout: Whether its rows are held out.
        read: Raw rows.
        kept: Canonical rows made of them, before duplicates and held-out rows are dropped.
        formats: Raw rows by the name of the format that they were recognised as.
        notes: What had to be assumed to read it, such as its encoding.
        unread: Columns that nobody reads, with the number of rows that have them.
        dropped: Canonical or raw rows by reason.
        epochs: How many times the training rows of its source stand in the collection.
    """

    label: str
    source: str
    heldout: bool = False
    read: int = 0
    kept: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    epochs: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionReport:
    """Numbers of rows: read + expanded + repeated = train + heldout + the sum of dropped.

    Attributes:
        sources: Labels of the files, or the collection that this one is derived from.
        expanded: Rows that came in addition: a ranking of K completions gives K(K-1)/2 pairs.
        repeated: Training rows that weights added; below zero where they took rows away.
        dropped: By reason.
        cleaned: Rows of which control characters were removed.
        placeholders: Rows with a template's ``{{name}}``.
        mojibake: Rows that look as if they were decoded wrongly once.
        controls: Rows with control characters that were not removed.
        entities: Rows with references of HTML.
        lengths: By column, over all rows kept.
        files: What was read, one entry a file.
        examples: Up to three a reason of `dropped`, and a finding (`REMOVED` and its
            like above).
    """

    name: Collection
    sources: tuple[str, ...]
    read: int
    expanded: int = 0
    repeated: int = 0
    train: int
    heldout: int
    dropped: Mapping[str, int]
    cleaned: int
    placeholders: int
    mojibake: int = 0
    controls: int = 0
    entities: int = 0
    lengths: Mapping[str, Lengths]
    files: tuple[SourceReport, ...] = ()
    examples: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationReport:
    """All collections of one preparation.

    Attributes:
        source: world, folder or sources.
        fingerprint: See `sources.fingerprint`.
        conversational: Whether prompts and completions are messages (or plain texts).
        contrasts: Number of pairs that differ in one respect.
        overlaps: See `split.cross_overlaps`.
        inspection: What a look at the written datasets adds.
    """

    source: str
    fingerprint: str
    conversational: bool
    collections: tuple[CollectionReport, ...]
    contrasts: int
    overlaps: Mapping[str, int]
    inspection: Inspection = field(default_factory=Inspection)

    def metrics(self) -> dict[str, float]:
        """Numbers for tracking, such as ``data/corpus_rows``.

        Where weights changed how often texts are taken, ``data/corpus_epochs_1`` is how often those
        of the first source are.
        """
        metrics: dict[str, float] = {}
        for each in self.collections:
            metrics[f"data/{each.name}_rows"] = float(each.train)
            metrics[f"data/{each.name}_heldout_rows"] = float(each.heldout)
            metrics[f"data/{each.name}_dropped_rows"] = float(sum(each.dropped.values()))
            if any(file.epochs != 1 for file in each.files):
                epochs = {file.source: file.epochs for file in each.files if not file.heldout}
                for number, count in enumerate(epochs.values(), 1):
                    metrics[f"data/{each.name}_epochs_{number}"] = count
        metrics["data/contrasts_rows"] = float(self.contrasts)
        return metrics | self.inspection.metrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a preparation is.

    Attributes:
        label: The file that is read.
        rows: Rows that were read, of all files.
        bytes: Of the canonical rows that they became.
        share: Of the files' bytes that were read, from 0 to 1; None where that is not known.
    """

    label: str
    rows: int
    bytes: int
    share: float | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""Takes the progress of a preparation, about twice a second."""


def ignore_progress(_: Progress) -> None:
    """Show nothing."""
