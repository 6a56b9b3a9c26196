"""BLEU and ROUGE of translations or summaries, with intervals, and by the length of the source.

BLEU is sacrebleu's: of a corpus, not a mean of sentences. It is a function of sums over sentences
(n-grams, matches, lengths), so the bootstrap draws sentences with replacement and adds up their
counts (Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004). Two systems
are compared on the same draws.

ROUGE reads lower-case letters a to z and digits only: an accent parts a word, and references
without any, as in other scripts, are left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from models.errors import DataError
from models.evaluation.texts import ROUGE, rouge
from models.statistics.intervals import Floats, Interval, bootstrap_interval, clustered_interval

RESAMPLES = 1000
LENGTHS = {"short": range(11), "middle": range(11, 16), "long": range(16, 10**9)}
"""Words of the source, parted by spaces."""

Rows = Sequence[Mapping[str, Any]]
"""With `source`, `target` (the reference) and `translation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a system's translations are worth.

    Attributes:
        bleu: 0 to 100, of `all` rows and of each length of which there are some.
        rows: How many each of these is of.
        rouge: F-scores, 0 to 1, the mean over rows that it can read.
        signature: sacrebleu's, with which BLEU can be compared elsewhere.
    """

    bleu: dict[str, Interval]
    rows: dict[str, int]
    rouge: dict[str, Interval]
    signature: str

    def metrics(self, stage: str) -> dict[str, float]:
        """Named for MLflow: bleu, bleu_short, … , rouge1, …, each with `_low` and `_high`."""
        found: dict[str, float] = {}
        for name, interval in self.bleu.items():
            suffix = "" if name == "all" else f"_{name}"
            found |= interval.metrics(f"{stage}/bleu{suffix}")
        for name, interval in self.rouge.items():
            found |= interval.metrics(f"{stage}/{name}")
        return found


def score_translations(rows: Rows, *, seed: int, resamples: int = RESAMPLES) -> Scores:
    """Score translations against their references.

    Raises:
        DataError: There are no rows.
    """
    if not rows:
        raise DataError("there are no translations to score; wanted at least one held-out row")
    groups = {"all": list(range(len(rows))), **_by_length(rows)}
    table = _bleu_counts(rows)
    shares = [rouge([row["translation"]], [row["target"]]) for row in rows]
    whole = BLEU()
    whole.corpus_score([row["translation"] for row in rows], [[row["target"] for row in rows]])
    return Scores(
        bleu={
            name: clustered_interval(
                table[numbers], _bleu, np.arange(len(numbers)), resamples, seed
            )
            for name, numbers in groups.items()
        },
        rows={name: len(numbers) for name, numbers in groups.items()},
        rouge={
            name: bootstrap_interval(
                [one[name] for one in shares if not math.isnan(one[name])], resamples, seed
            )
            for name in ROUGE
        },
        signature=str(whole.get_signature()),
    )


def compare_translations(
    first: Rows, second: Rows, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Bound how much more BLEU the second system has than the first, on the same draws.

    Returns:
        The gain on `all` rows and on each length of which there are some.

    Raises:
        DataError: The two are not of the same sources and references.
    """
    for one, two in zip(first, second, strict=False):
        if len(first) != len(second) or any(one[key] != two[key] for key in ("source", "target")):
            raise DataError(
                f"two systems are compared on the same held-out rows; got {len(first)} and "
                f"{len(second)} rows that are not the same: translate one file with both"
            )
    table = np.concatenate([_bleu_counts(first), _bleu_counts(second)], axis=1)  # (rows, 20)
    width = table.shape[1] // 2

    def gain(sums: Floats) -> Floats:
        found: Floats = _bleu(sums[:, width:]) - _bleu(sums[:, :width])
        return found

    return {
        name: clustered_interval(table[numbers], gain, np.arange(len(numbers)), resamples, seed)
        for name, numbers in {"all": list(range(len(first))), **_by_length(first)}.items()
    }


def _by_length(rows: Rows) -> dict[str, list[int]]:
    words = [len(row["source"].split()) for row in rows]
    groups = {
        name: [number for number, count in enumerate(words) if count in wanted]
        for name, wanted in LENGTHS.items()
    }
    return {name: numbers for name, numbers in groups.items() if numbers}


def _bleu_counts(rows: Rows) -> Floats:
    """Words of translation and reference, matches and n-grams for n = 1..4; (rows, 10)."""
    counter = BLEU(effective_order=True)  # of which only the counts are taken
    found = [counter.sentence_score(row["translation"], [row["target"]]) for row in rows]
    return np.array(
        [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in found], dtype=np.float64
    )


def _bleu(sums: Floats) -> Floats:
    """BLEU of sums of `_bleu_counts`, (resamples, 10) -> (resamples,)."""
    return np.array(
        [
            BLEU.compute_bleu(
                correct=row[2:6],
                total=row[6:10],
                sys_len=row[0],
                ref_len=row[1],
                smooth_method="exp",
            ).score
            for row in sums.astype(int).tolist()
        ]
    )
