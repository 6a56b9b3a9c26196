"""Intervals: how sure a measured number is.

Used wherever a held-out number is reported: the reward model's pair accuracy (Wilson), the gains
of PPO over SFT (paired bootstrap) and statistics of pairs (clustered bootstrap). Samples of one
prompt resemble each other, so the bootstrap resamples whole prompts; resampling single samples
would give intervals too narrow. It draws with NumPy itself rather than through
`scipy.stats.bootstrap`, so that published numbers can be reproduced whatever SciPy draws.

One value says nothing about its spread, and neither does a set with a number that is not finite:
their intervals have NaN ends, never a width of zero that would pass for certainty.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Groups: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the two ends of its interval; NaN ends where there is none."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    def metrics(self, name: str) -> dict[str, float]:
        """Name the mean and both ends for MLflow: `name`, `name_low`, `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}

    def __str__(self) -> str:
        """Write it with signs, as gains are read: ``+0.162 [+0.148, +0.177]``."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"{_signed(self.mean)} [no interval]"
        return f"{_signed(self.mean)} [{_signed(self.low)}, {_signed(self.high)}]"


def _signed(value: float) -> str:
    """Write three decimals, or the order of magnitude where these would hide the sign."""
    hidden = value != 0 and abs(value) < 0.0005
    return f"{value:+.0e}" if hidden else f"{value:+.3f}"


def bootstrap_interval(
    values: ArrayLike, resamples: int, seed: int, level: float = 0.95
) -> Interval:
    """Bound the mean of independent values by the percentile bootstrap.

    Args:
        values: Independent numbers, (values,); one per prompt, say.

    Returns:
        The mean of the values and the interval's ends; NaN ends below two values or with a
        number that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Interval(mean=math.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(array.mean())
    if array.size < 2 or not np.isfinite(array).all():
        return Interval(mean=mean)
    means = [array[drawn].mean() for drawn in _resample(array.size, resamples, seed)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))


def paired_bootstrap(first: Floats, second: Floats, resamples: int, seed: int) -> Interval:
    """Bound the mean gain of ``second`` over ``first``, resampling prompts.

    Gains are averaged within each prompt first; a prompt is drawn with all its samples or not at
    all, so that it does not matter how alike the samples of one prompt are.

    Args:
        first: Numbers of the one model, (prompts, samples).
        second: Numbers of the other on the same prompts, (prompts, samples).

    Returns:
        The mean of second minus first, with its interval.

    Raises:
        DataError: The two do not hold the same number of prompts.
    """
    if len(first) != len(second):
        raise DataError(
            f"paired gains want the same prompts on both sides; got {len(first)} and "
            f"{len(second)} prompts; sample both models on one list of prompts"
        )
    if first.size == 0 or second.size == 0:
        return Interval(mean=math.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        gains = second.mean(axis=1) - first.mean(axis=1)  # (prompts,)
    return bootstrap_interval(gains, resamples, seed)


def clustered_interval(
    table: Floats,
    statistic: Callable[[Floats], Floats],
    prompts: Groups,
    resamples: int,
    seed: int,
) -> Interval:
    """Bound a statistic of column sums by the percentile bootstrap over whole prompts.

    Unlike in `paired_bootstrap`, prompts may have different numbers of rows and each row counts
    the same.

    Args:
        table: Numbers of each row, such as a held-out pair, (rows, columns).
        statistic: Gives (resamples,) of sums over rows, (resamples, columns).
        prompts: Number of each row's prompt, (rows,).

    Returns:
        The statistic of all rows with its 95% interval; NaN ends below two prompts. Resamples in
        which the statistic is undefined are left out.
    """
    mean = float(statistic(table.sum(axis=0, keepdims=True))[0])
    _, numbers = np.unique(prompts, return_inverse=True)
    count = int(numbers.max()) + 1
    if count < 2 or not math.isfinite(mean):
        return Interval(mean=mean)
    sums = np.stack([np.bincount(numbers, weights=column) for column in table.T], axis=1)
    resampled = [sums[drawn].sum(axis=0) for drawn in _resample(count, resamples, seed)]
    found = statistic(np.stack(resampled))
    found = found[np.isfinite(found)]
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (math.nan, math.nan)
    return Interval(mean=mean, low=float(low), high=float(high))


def wilson_interval(successes: int, total: int) -> Interval:
    """Bound a share of independent trials; sound at 0 and 1, where p ± z·sd has no width.

    Returns:
        The observed share with its interval; of no trials NaN in [0, 1].

    Source:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    from scipy.stats import binomtest  # takes 0.6 s to import: only where something is measured

    if total == 0:
        return Interval(mean=math.nan, low=0.0, high=1.0)
    ends = binomtest(successes, total).proportion_ci(0.95, method="wilson")
    return Interval(mean=successes / total, low=float(ends.low), high=float(ends.high))


def _resample(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Draw `count` indices with replacement, as often as `resamples`."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, count, count)
