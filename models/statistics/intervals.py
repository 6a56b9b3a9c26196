"""Intervals: how sure a measured number is.

Used wherever a held-out number is reported: the reward model's pair accuracy (Wilson) and the
gains of PPO over SFT (paired bootstrap). Samples of one prompt resemble each other, so the
bootstrap resamples whole prompts; resampling single samples would give intervals too narrow.

One value says nothing about its spread, and neither does a set with a number that is not finite:
their intervals have NaN ends, never a width of zero that would pass for certainty.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the two ends of its interval; NaN ends where there is none."""

    mean: float
    low: float
    high: float

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
        values: Independent numbers, (values,); one a prompt, say.
        resamples: How often the values are drawn anew, with replacement.
        seed: Of the drawing; the same seed gives the same interval.
        level: Probability that the interval should cover the mean.

    Returns:
        The mean of the values and the interval's ends; NaN ends below two values or with a
        number that is not finite.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(array.mean())
    if array.size < 2 or not np.isfinite(array).all():
        return Interval(mean=mean, low=math.nan, high=math.nan)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for index in range(resamples):
        means[index] = array[generator.integers(0, array.size, array.size)].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))


def paired_bootstrap(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Bound the mean gain of ``second`` over ``first``, resampling prompts.

    Gains are averaged within each prompt first; a prompt is drawn with all its samples or not at
    all, so that it does not matter how alike the samples of one prompt are.

    Args:
        first: Numbers of the one model, (prompts, samples).
        second: Numbers of the other on the same prompts, (prompts, samples).
        resamples: How often the prompts are drawn anew, with replacement.
        seed: Of the drawing.
        level: Probability that the interval should cover the mean gain.

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
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        gains = second.mean(axis=1) - first.mean(axis=1)  # (prompts,)
    return bootstrap_interval(gains, resamples, seed, level)


def wilson_interval(successes: int, total: int, level: float = 0.95) -> Interval:
    """Bound a share of independent trials; sound at 0 and 1, where p ± z·sd has no width.

    Args:
        successes: Trials that succeeded, 0 to total.
        total: Trials.
        level: Probability that the interval should cover the true share.

    Returns:
        The observed share with its interval; of no trials NaN in [0, 1].

    Source:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    if total == 0:
        return Interval(mean=math.nan, low=0.0, high=1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(mean=share, low=max(0.0, centre - half), high=min(1.0, centre + half))
