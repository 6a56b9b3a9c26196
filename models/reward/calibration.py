"""Calibration: whether a reward model is right as often as its margins promise.

Bradley-Terry reads the margin m = score(chosen) - score(rejected) as P(chosen wins) = sigmoid(m).
A file of pairs always names the better completion first, so comparing sigmoid(m) with "chosen won"
would compare with a column of ones. Each pair is therefore seen from the side that the model
prefers: its confidence is sigmoid(|m|), at least 0.5, and it is correct where m > 0.

Bins hold equally many pairs, so that each has about the same noise. The expected calibration error
of few pairs is above zero even for a perfect model; `calibrated_error` says by how much.

Source: Guo et al., On Calibration of Modern Neural Networks (2017), after Naeini et al., Obtaining
Well Calibrated Probabilities Using Bayesian Binning (2015); bins of equal mass as in Nguyen and
O'Connor, Posterior Calibration and Exploratory Analysis for NLP Models (2015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.statistics.intervals import Flags, Floats, Groups, Interval, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginBin:
    """Pairs of about the same margin.

    Attributes:
        confidence: Mean of sigmoid(|margin|).
        accuracy: Share of pairs ranked right, with its 95% Wilson interval.
    """

    low: float
    high: float
    pairs: int
    confidence: float
    accuracy: Interval


def confidences(margins: Floats) -> Floats:
    """Compute the probability of the model's own choice, sigmoid(|margin|), (pairs,)."""
    return np.asarray(1 / (1 + np.exp(-np.abs(margins))))


def margin_bins(margins: Floats, bins: int) -> list[MarginBin]:
    """Sort pairs by |margin| into bins of equal mass.

    Args:
        margins: Score of chosen minus rejected, (pairs,), finite.
        bins: At most this many; fewer where there are fewer pairs.

    Returns:
        Bins from the smallest margins to the largest; their sizes differ by one at most.
    """
    confidence, correct, sizes = confidences(margins), margins > 0, np.abs(margins)
    return [
        MarginBin(
            low=float(sizes[rows].min()),
            high=float(sizes[rows].max()),
            pairs=len(rows),
            confidence=float(confidence[rows].mean()),
            accuracy=wilson_interval(int(correct[rows].sum()), len(rows)),
        )
        for rows in _equal_mass(sizes, bins)
    ]


def calibration_error(bins: Sequence[MarginBin]) -> float:
    """Compute the expected calibration error, the sum of (pairs of bin / pairs) |acc - conf|.

    Source:
        Guo et al. (2017).
    """
    total = sum(one.pairs for one in bins)
    if total == 0:
        return math.nan
    return sum(one.pairs / total * abs(one.accuracy.mean - one.confidence) for one in bins)


def calibrated_error(margins: Floats, bins: int, seed: int, draws: int = 200) -> float:
    """Compute the mean calibration error that noise alone gives a perfectly calibrated model.

    Outcomes are drawn from the model's own confidences.

    Args:
        margins: Score of chosen minus rejected, (pairs,), finite.
        draws: Simulated sets of outcomes.

    Source:
        Broecker and Smith, Increasing the Reliability of Reliability Diagrams (2007).
    """
    if len(margins) == 0:
        return math.nan
    generator = np.random.default_rng(seed)
    confidence = confidences(margins)
    error = 0.0
    for rows in _equal_mass(np.abs(margins), bins):
        promised = confidence[rows]
        right: Flags = generator.random((draws, len(rows))) < promised
        gaps = np.abs(right.mean(axis=1) - promised.mean())
        error += len(rows) / len(margins) * float(gaps.mean())
    return error


def margin_nll(margins: Floats) -> float:
    """Compute the held-out Bradley-Terry loss, the mean of -log sigmoid(margin), nats per pair.

    Source:
        Ouyang et al., Training Language Models to Follow Instructions with Human Feedback (2022),
        the reward model's loss, for pairs.
    """
    with np.errstate(invalid="ignore"):  # a broken model's loss is NaN
        return float(np.logaddexp(0.0, -margins).mean()) if len(margins) else math.nan


def brier_score(margins: Floats) -> float:
    """Compute the mean of (1 - sigmoid(margin))^2; 0 is perfect, 0.25 a coin.

    Source:
        Brier, Verification of Forecasts Expressed in Terms of Probability (1950).
    """
    with np.errstate(invalid="ignore"):
        missing = np.exp(-np.logaddexp(0.0, margins))  # sigmoid(-margin), without overflow
    return float((missing**2).mean()) if len(margins) else math.nan


def _equal_mass(values: Floats, bins: int) -> list[Groups]:
    """Split the rows, sorted by value, into at most `bins` parts of equal size."""
    order = np.argsort(values, kind="stable")
    return np.array_split(order, min(bins, len(values))) if len(values) else []
