"""What the preferences have in common: a bias to length, margins, ties, pairs per prompt.

And how far people agree: the same two completions of a prompt judged more than once.
"""

import hashlib
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from models.statistics.intervals import wilson_interval
from tasks.data.formats import Row
from tasks.data.inspection.lengths import BINS, count_bins, measure
from tasks.data.inspection.records import Agreement, PairNumbers
from tasks.data.inspection.texts import content_of

MOST_MARGINS = 12
_SEVERAL = 2**20
"""More judgements of one pair than there are."""


@dataclass(slots=True, kw_only=True)
class JudgementCounter:
    """Counts judgements of each pair, as they are read and before duplicates are dropped."""

    _counts: dict[int, int] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take a canonical preference; ties are no judgement."""
        if row.get("tie"):
            return
        chosen, rejected = (
            json.dumps(row[side], sort_keys=True) for side in ("chosen", "rejected")
        )
        text = "\0".join((json.dumps(row["prompt"], sort_keys=True), *sorted((chosen, rejected))))
        key = hashlib.blake2b(text.encode(), digest_size=8).digest()
        first = chosen < rejected
        self.add_key(int.from_bytes(key, "big"), first=first)

    def add_key(self, key: int, *, first: bool) -> None:
        """Take a judgement of a pair that is known by a number.

        Args:
            key: The same for both orders of the two completions.
            first: Whether the completion won that comes first in any fixed order.
        """
        self._counts[key] = self._counts.get(key, 0) + (1 if first else _SEVERAL)

    def agreement(self) -> Agreement | None:
        """How often two judgements of one pair are equal; None where no pair has two."""
        pairs = judgements = equal = both = 0
        for count in self._counts.values():
            second, first = divmod(count, _SEVERAL)
            total = first + second
            if total > 1:
                pairs += 1
                judgements += total
                equal += first * (first - 1) + second * (second - 1)
                both += total * (total - 1)
        if not pairs:
            return None
        return Agreement(pairs=pairs, judgements=judgements, equal=equal / both)


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
            chosen_longer=wilson_interval(longer, len(difference) - equal),
            equal_length=equal,
            difference=count_bins(np.clip(difference, -most, most), edges),
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
