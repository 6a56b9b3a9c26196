"""What the preferences have in common: a bias to length, margins, ties, pairs per prompt.

And how far people agree: the same two completions of a prompt judged more than once.
"""

import hashlib
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.data.formats import Row
from tasks.data.inspection.lengths import BINS, count_bins, measure
from tasks.data.inspection.records import Agreement, PairNumbers
from tasks.data.inspection.texts import content_of
from tasks.data.inspection.words import Hashes

MOST_MARGINS = 12


def find_agreement(pairs: Hashes, turned: NDArray[np.bool_]) -> Agreement | None:
    """How often two judgements of one pair are equal; None where no pair has two.

    Args:
        pairs: A number for each judgement that is the same for both orders of the completions,
            (judgements,), before duplicates are dropped.
        turned: Whether the one of the two is chosen that comes second in some fixed order.
    """
    _, numbers, totals = np.unique(pairs, return_inverse=True, return_counts=True)
    second = np.bincount(numbers, weights=turned, minlength=len(totals))
    several = totals > 1
    if not several.any():
        return None
    total, second = totals[several].astype(np.float64), second[several]
    first = total - second
    equal = (first * (first - 1) + second * (second - 1)).sum() / (total * (total - 1)).sum()
    return Agreement(pairs=len(total), judgements=int(total.sum()), equal=float(equal))


@dataclass(slots=True, kw_only=True)
class PairCounter:
    """Counts what preferences have in common, row by row."""

    _chosen: "array[int]" = field(default_factory=lambda: array("q"))
    _rejected: "array[int]" = field(default_factory=lambda: array("q"))
    _common: "array[int]" = field(default_factory=lambda: array("q"))
    _prompts: Counter[bytes] = field(default_factory=Counter)
    _margins: Counter[str] = field(default_factory=Counter)
    _ties: int = 0

    def add(self, row: Row) -> None:
        """Take a canonical preference."""
        prompt = json.dumps(row["prompt"]).encode()
        self._prompts[hashlib.blake2b(prompt, digest_size=8).digest()] += 1
        if row.get("tie"):
            self._ties += 1
            return
        if "margin" in row:
            self._margins[f"{row['margin']:.4g}"] += 1
        chosen, rejected = content_of(row["chosen"]), content_of(row["rejected"])
        self._chosen.append(len(chosen))
        self._rejected.append(len(rejected))
        self._common.append(_first_difference(chosen, rejected))

    def numbers(self) -> PairNumbers | None:
        """All of it; None without a pair."""
        if not self._prompts:
            return None
        difference = np.array(self._chosen, dtype=np.int64) - np.array(self._rejected)
        longer, equal = int((difference > 0).sum()), int((difference == 0).sum())
        most = int(np.percentile(np.abs(difference), 99)) + 1 if len(difference) else 1
        edges = np.linspace(-most, most, BINS + 2)
        return PairNumbers(
            pairs=len(difference),
            longer=longer,
            equal_length=equal,
            difference=count_bins(difference, edges),
            prompts=len(self._prompts),
            most_pairs=max(self._prompts.values()),
            ties=self._ties,
            margins=dict(self._margins.most_common(MOST_MARGINS)),
            first_difference=measure(self._common, len(difference)) if self._common else None,
        )


def _first_difference(one: str, other: str) -> int:
    """The first character in which two texts differ, counted from 0."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
