"""Win rates: how often one model's completion is preferred to another's, for any set of models.

A preference is 1 where the row's completion is better, 0 where the column's is, 0.5 for a tie. It
comes from scores (every sample of one model against every sample of the other on the same prompt)
or from a judge that compared pairs. Preferences are averaged within each prompt first, and
intervals resample whole prompts, because samples of one prompt resemble each other.

    win_rate(a, b) = mean over prompts of mean over pairs of [a > b] + 0.5 [a = b]

so win_rate(a, b) + win_rate(b, a) = 1. Within one prompt the mean over all pairs is the U statistic
of Mann and Whitney over the number of pairs: the probability that a random sample of one model
beats a random sample of the other.

Source: Mann and Whitney, On a Test of Whether one of Two Random Variables is Stochastically Larger
than the Other (1947).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.errors import DataError
from models.randomness import derive_seed
from models.statistics.controlled import Extent, controlled_gain
from models.statistics.intervals import Floats, Interval, bootstrap_interval, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRates:
    """Win rates among a set of models under one judge.

    Attributes:
        models: Their names, in the order of rows and columns.
        intervals: Of each pair (row, column) with row before column.
        prompts: How many prompts of each such pair were judged.
        controlled: Win rates at equal length and ending, of the same pairs; none where that was
            not measured.
    """

    models: tuple[str, ...]
    intervals: Mapping[tuple[str, str], Interval]
    prompts: Mapping[tuple[str, str], int]
    controlled: Mapping[tuple[str, str], Interval] = field(default_factory=dict)

    def controlled_of(self, row: str, column: str) -> Interval:
        """How often `row` is preferred to `column` at equal length and ending; NaN if unknown."""
        unknown = Interval(mean=math.nan)
        if (column, row) in self.controlled:
            return _turned(self.controlled[column, row])
        return self.controlled.get((row, column), unknown)

    def of(self, row: str, column: str) -> Interval:
        """How often `row` is preferred to `column`; 0.5 without interval against itself."""
        if row == column:
            return Interval(mean=0.5)
        if (row, column) in self.intervals:
            return self.intervals[row, column]
        return _turned(self.intervals[column, row])

    def pairs(self) -> Iterator[tuple[str, str, Interval]]:
        """Every pair once, row before column."""
        for (row, column), interval in self.intervals.items():
            yield row, column, interval

    def mean_of(self, model: str) -> float:
        """Mean win rate of a model against all others; NaN without others."""
        rates = [self.of(model, other).mean for other in self.models if other != model]
        return sum(rates) / len(rates) if rates else math.nan


def _turned(rate: Interval) -> Interval:
    return Interval(mean=1 - rate.mean, low=1 - rate.high, high=1 - rate.low)


def prompt_preferences(row: Floats, column: Floats) -> Floats:
    """Prefer the higher score, over all pairs of samples of a prompt.

    Args:
        row: Scores of the one model, (prompts, samples).
        column: Scores of the other on the same prompts, (prompts, samples of its own number).

    Returns:
        (prompts,) in [0, 1]; NaN where a score is NaN.

    Raises:
        DataError: The two do not hold the same number of prompts.
    """
    if len(row) != len(column):
        raise DataError(
            f"win rates want the same prompts for both models; got {len(row)} and {len(column)}; "
            "sample both on one list of prompts"
        )
    first, second = row[:, :, None], column[:, None, :]
    better = (first > second) + 0.5 * (first == second)  # (prompts, samples, samples)
    better = np.where(np.isnan(first) | np.isnan(second), np.nan, better)
    return np.asarray(better.mean(axis=(1, 2)))


def preference_interval(preferences: Floats, *, resamples: int, seed: int) -> Interval:
    """Bound a win rate: the mean of one preference a prompt.

    Args:
        preferences: (prompts,) in [0, 1].

    Returns:
        The mean with its 95% interval by the expanded percentile bootstrap: of few values the plain
        one is too narrow, as an interval without Student's t is. Where one side wins every prompt
        all resamples are equal, and Wilson's interval says how sure that is.

    Source:
        Hesterberg, What Teachers Should Know About the Bootstrap (2015), on the expanded percentile
        interval: ends at Φ(±√(n / (n - 1)) t) with the quantile t of n - 1 degrees of freedom.
    """
    from scipy.stats import norm, t  # takes 0.6 s to import: only where something is measured

    count = len(preferences)
    wins = float(preferences.sum())
    if count and wins in (0.0, count):
        return wilson_interval(int(wins), count)
    if count < 2:
        return bootstrap_interval(preferences, resamples, seed)
    wider = math.sqrt(count / (count - 1)) * t.ppf(0.975, count - 1)
    return bootstrap_interval(preferences, resamples, seed, level=float(2 * norm.cdf(wider) - 1))


def win_rates_of_scores(
    scores: Mapping[str, Floats], extents: Mapping[str, Extent], *, resamples: int, seed: int
) -> WinRates:
    """Compare every two models by their scores on the same prompts.

    Args:
        scores: Of each model, (prompts, samples).
        extents: Of each model's samples.
    """
    preferences = {
        (row, column): prompt_preferences(scores[row], scores[column])
        for row, column in itertools.combinations(scores, 2)
    }
    return win_rates(list(scores), preferences, extents, resamples=resamples, seed=seed)


def win_rates(
    models: Sequence[str],
    preferences: Mapping[tuple[str, str], Floats],
    extents: Mapping[str, Extent],
    *,
    resamples: int,
    seed: int,
) -> WinRates:
    """Average preferences over prompts, with 95% intervals; see `preference_interval`.

    Every pair is bounded by the same resamplings of the prompts, so its interval does not depend on
    which other models are compared.

    Args:
        preferences: Of each pair (row, column), (prompts,) in [0, 1] for `row`; NaN where a prompt
            was not judged, and it is left out.
        extents: Of the samples of each model that were compared.
    """
    judged = {pair: values[~np.isnan(values)] for pair, values in preferences.items()}
    drawing = derive_seed(seed, "win_rates.bootstrap")
    return WinRates(
        models=tuple(models),
        intervals={
            pair: preference_interval(values, resamples=resamples, seed=drawing)
            for pair, values in judged.items()
        },
        prompts={pair: len(values) for pair, values in judged.items()},
        controlled={
            (row, column): controlled_rate(values, extents[column], extents[row])
            for (row, column), values in preferences.items()
        },
    )


def controlled_rate(preferences: Floats, baseline: Extent, model: Extent) -> Interval:
    """Estimate a win rate at equal length and ending; see `controlled_gain`.

    Args:
        preferences: (prompts,) in [0, 1] for `model`; NaN where a prompt was not judged.

    Returns:
        The rate with its 95% interval; Wilson's where one side wins every prompt, of which no
        scatter says how sure that is.
    """
    gain = controlled_gain(preferences - 0.5, baseline, model)
    judged = preferences[~np.isnan(preferences)]
    wins = float(judged.sum())
    if math.isfinite(gain.mean) and wins in (0.0, len(judged)):
        return wilson_interval(int(wins), len(judged))
    ends = (gain.mean + 0.5, gain.low + 0.5, gain.high + 0.5)
    mean, low, high = np.clip(ends, 0.0, 1.0).tolist()
    return Interval(mean=mean, low=low, high=high)
