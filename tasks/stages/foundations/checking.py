"""What came of each claim: its two numbers, their difference with its interval, and a verdict.

Where both models published what they did row by row, the difference has a paired bootstrap's
interval, and a claim whose interval holds zero, or whose difference is nearly none, is left open.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.rows import read_rows
from models.statistics.intervals import Interval, paired_bootstrap
from tasks.stages.foundations.claims import SHOTS, Claim, claims

RESAMPLES = 1000
LEAST = 0.001
"""A difference that has no interval is open below it."""

Verdict: TypeAlias = Literal["held", "open", "did not hold"]
Values: TypeAlias = Mapping[str, float]


def check_claims(
    metrics: Mapping[str, Values], folders: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """Say of each claim whose two numbers there are whether it held.

    Args:
        metrics: Final metrics by role.
        folders: Published folders by role.

    Returns:
        The claim with `first`, `second`, `difference` (positive = as claimed) and `verdict`.
    """
    found = []
    for claim in claims():
        first, second = (_value(one, claim.metric, metrics) for one in (claim.better, claim.worse))
        if not (math.isfinite(first) and math.isfinite(second)):
            continue
        sign = -1.0 if claim.lower else 1.0
        gain = Interval(mean=sign * (first - second))
        if claim.metric == SHOTS or ":" not in claim.better + claim.worse:
            gain = _paired(claim, gain, folders)
        found.append(
            {
                "part": claim.part,
                "claim": claim.text,
                "source": claim.source,
                "first": first,
                "second": second,
                "difference": gain,
                "verdict": _verdict(gain, claim.margin),
            }
        )
    return found


def _value(name: str, metric: str, metrics: Mapping[str, Values]) -> float:
    role, _, own = name.partition(":")
    return metrics.get(role, {}).get(own or metric, math.nan)


def _verdict(gain: Interval, margin: float) -> Verdict:
    ends = (gain.low, gain.high)
    if not all(map(math.isfinite, ends)):  # of many thousands of tokens, or of one answer
        ends = (gain.mean - LEAST, gain.mean + LEAST)
    low, high = ends
    if low <= -margin <= high:
        return "open"
    return "held" if gain.mean > -margin else "did not hold"


def _paired(claim: Claim, plain: Interval, folders: Mapping[str, Path]) -> Interval:
    """The difference with its interval, where both models answered the same rows."""
    measure = _PAIRED.get(claim.metric)
    if measure is None:
        return plain
    better, worse = (folders[one.partition(":")[0]] for one in (claim.better, claim.worse))
    return measure(better, worse)


def _paired_accuracy(better: Path, worse: Path) -> Interval:
    sides = [
        np.array([[row["prediction"] == row["label"]] for row in read_rows(one)], np.float64)
        for one in (worse / "predictions.jsonl", better / "predictions.jsonl")
    ]
    return paired_bootstrap(sides[0], sides[1], RESAMPLES, seed=0)


def _paired_correlation(better: Path, worse: Path) -> Interval:
    sides = [read_rows(one / "predictions.jsonl") for one in (worse, better)]
    right = np.array([row["label"] for row in sides[0]], np.float64)
    first, second = (np.array([row["prediction"] for row in side], np.float64) for side in sides)

    def gain(rows: NDArray[np.intp] | slice) -> float:
        with np.errstate(invalid="ignore"):  # constant predictions have a correlation of 0
            one, other = (
                np.nan_to_num(np.corrcoef(side[rows], right[rows])[0, 1])
                for side in (first, second)
            )
        return float(other - one)

    rng = np.random.default_rng(0)
    drawn = [gain(rng.integers(len(right), size=len(right))) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean=gain(slice(None)), low=float(low), high=float(high))


def _paired_shots(better: Path, worse: Path) -> Interval:
    """A few examples against none, on the same questions."""
    rows = read_rows(better / "answers.jsonl")
    sides = [
        np.array([[r["prediction"] == r["label"]] for r in rows if r["shots"] == shots], np.float64)
        for shots in ("zero", "few")
    ]
    return paired_bootstrap(sides[0], sides[1], RESAMPLES, seed=0)


def _paired_bleu(length: str, better: Path, worse: Path) -> Interval:
    from models.translation.scores import compare_translations  # a second to import

    systems = [read_rows(one / "samples.jsonl") for one in (worse, better)]
    return compare_translations(systems[0], systems[1], seed=0)[length]


_PAIRED: dict[str, Callable[[Path, Path], Interval]] = {
    "understand/accuracy": _paired_accuracy,
    "understand/correlation": _paired_correlation,
    SHOTS: _paired_shots,
    "translate/bleu": partial(_paired_bleu, "all"),
    "translate/bleu_long": partial(_paired_bleu, "long"),
}


def count_verdicts(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many claims held, did not, and are open, as metrics."""
    names = {"held": "held", "open": "open", "did not hold": "not_held"}
    return {
        f"foundations/claims_{short}": float(sum(one["verdict"] == name for one in found))
        for name, short in names.items()
    }
