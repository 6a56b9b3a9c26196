"""How long the texts of each column are: characters, words and, with a tokenizer, tokens."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.data.formats import Collection, Row
from tasks.data.inspection.records import (
    ColumnLengths,
    Histogram,
    Sizes,
    TokenLimits,
    Truncation,
)
from tasks.data.inspection.texts import COMPLETIONS, content_of

BINS = 40
SPREAD = 20.0
"""Ratio of the longest text to the median from which a histogram's bins grow by a factor."""
COLUMNS = ("text", "prompt", "completion", "chosen", "rejected")


@dataclass(slots=True, kw_only=True)
class LengthCounter:
    """Lengths of the columns of one collection, row by row."""

    _characters: "dict[str, array[int]]" = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take a canonical row."""
        for column in COLUMNS:
            if column in row:
                size = len(content_of(row[column]))
                self._characters.setdefault(column, array("q")).append(size)

    def columns(
        self, sample: Sequence[Row], total: int, limits: TokenLimits | None
    ) -> dict[str, ColumnLengths]:
        """The lengths by column.

        Args:
            sample: Some of the rows, in which words and tokens are counted.
            total: Number of all rows, counted here or not.
            limits: Hold the tokenizer, if one is known.
        """
        found = {}
        for column, counted in self._characters.items():
            texts = [content_of(row[column]) for row in sample]
            tokens = limits and [len(ids) for ids in limits.encode(texts)]
            found[column] = ColumnLengths(
                histogram=count_bins(counted, self._edges(column)),
                words=measure([len(text.split()) for text in texts], total),
                tokens=measure(tokens, total) if tokens else None,
            )
        return found

    def _edges(self, column: str) -> NDArray[np.float64]:
        """One scale for chosen and rejected, which are compared."""
        both = ("chosen", "rejected")
        columns = both if column in both else (column,)
        return choose_edges(np.concatenate([np.array(self._characters[one]) for one in columns]))


def measure(lengths: ArrayLike, rows: int) -> Sizes:
    """Describe lengths; at least one.

    Args:
        lengths: Of each text, or of a sample.
        rows: How many texts there are, for the total.
    """
    values = np.asarray(lengths, dtype=np.int64)
    median, p95 = np.percentile(values, (50, 95))
    return Sizes(
        median=float(median),
        p95=float(p95),
        maximum=int(values.max()),
        total=round(values.mean() * rows),
    )


def choose_edges(lengths: ArrayLike) -> NDArray[np.float64]:
    """Edges of bins of equal width or, where a few texts are very long, of equal ratio."""
    values = np.asarray(lengths, dtype=np.int64)
    longest, middle = max(1, int(values.max())), max(1.0, float(np.median(values)))
    if longest > SPREAD * middle:
        return np.geomspace(1, longest + 1, BINS + 1)
    return np.linspace(0, longest + 1, min(BINS, longest + 1) + 1)


def count_bins(values: ArrayLike, edges: ArrayLike) -> Histogram:
    """Count values between edges; what lies beyond the ends counts in the bins there."""
    edges = np.asarray(edges, dtype=np.float64)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _encode(rows: Sequence[Row], column: str, limits: TokenLimits) -> list[list[int]]:
    """Token ids of one column."""
    return limits.encode([content_of(row[column]) for row in rows])


def find_truncation(
    collection: Collection, rows: Sequence[Row], limits: TokenLimits
) -> Truncation | None:
    """What the limit of a collection's training does to a sample of its rows.

    Prompts are cut from the left and completions never, so a row is left out when its completion
    and EOS fill the limit; see `models/training/sft.py` and `models/reward/ranking.py`.
    """
    limit = {"demonstrations": limits.sft, "preferences": limits.reward, "prompts": limits.prompts}
    if collection not in limit or not rows:
        return None
    most = min(limit[collection], limits.context)
    prompts = np.array([len(ids) for ids in _encode(rows, "prompt", limits)])
    sides = [_encode(rows, column, limits) for column in COMPLETIONS[collection]]
    longest = np.zeros(len(rows), dtype=np.int64)
    for side in sides:
        longest = np.maximum(longest, [len(ids) + 1 for ids in side])
    dropped = longest >= most
    equal = [one == other for one, other in zip(*sides, strict=True)] if len(sides) == 2 else []
    return Truncation(
        collection=collection,
        limit=most,
        rows=len(rows),
        cut=int(((prompts + longest > most) & ~dropped).sum()),
        dropped=int(dropped.sum()),
        equal=sum(equal),
    )
