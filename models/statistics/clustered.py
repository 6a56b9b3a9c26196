"""Intervals of statistics of rows that share prompts, such as held-out pairs.

Rows of one prompt resemble each other, so prompts are drawn anew, each with all its rows or not at
all. Unlike `intervals`, prompts may have different numbers of rows and each row counts the same.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.statistics.intervals import Floats, Interval

Groups: TypeAlias = NDArray[np.intp]


def clustered_interval(
    table: Floats,
    statistic: Callable[[Floats], Floats],
    prompts: Groups,
    resamples: int,
    seed: int,
) -> Interval:
    """Bound a statistic of column sums by the percentile bootstrap over whole prompts.

    Args:
        table: Numbers of each pair, (pairs, columns).
        statistic: Gives (rows,) of sums over pairs, (rows, columns).
        prompts: Number of each pair's prompt, (pairs,).
        resamples: How often the prompts are drawn anew, with replacement.
        seed: Of the drawing.

    Returns:
        The statistic of all pairs with its 95% interval; NaN ends below two prompts. Resamples in
        which the statistic is undefined are left out.

    Source:
        Efron and Tibshirani (1993), section 13.3, prompts being the independent units.
    """
    mean = float(statistic(table.sum(axis=0, keepdims=True))[0])
    _, numbers = np.unique(prompts, return_inverse=True)
    count = int(numbers.max()) + 1
    if count < 2 or not math.isfinite(mean):
        return Interval(mean=mean, low=math.nan, high=math.nan)
    sums = np.stack([np.bincount(numbers, weights=column) for column in table.T], axis=1)
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, table.shape[1]))
    for index in range(resamples):
        drawn[index] = sums[generator.integers(0, count, count)].sum(axis=0)
    found = statistic(drawn)
    found = found[np.isfinite(found)]
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (math.nan, math.nan)
    return Interval(mean=mean, low=float(low), high=float(high))
