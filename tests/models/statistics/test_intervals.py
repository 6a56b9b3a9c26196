"""Intervals against enumeration, slow loops, textbook numbers and coverage by simulation."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.statistics.intervals import (
    Interval,
    bootstrap_interval,
    clustered_interval,
    paired_bootstrap,
    wilson_interval,
)


def test_bootstrap_interval_matches_enumeration_of_all_resamples() -> None:
    values = [0.0, 1.0, 3.0, 7.0]
    # All 4^4 = 256 equally likely resamples, their exact 2.5% and 97.5% points.
    means = sorted(sum(drawn) / 4 for drawn in itertools.product(values, repeat=4))
    # 2.5% of 256 is 6.4, 97.5% is 249.6: the 7th and 250th smallest.
    low, high = means[6], means[249]
    interval = bootstrap_interval(values, 20_000, seed=3)
    assert interval.mean == pytest.approx(2.75)  # 11 / 4
    # The means lie on a grid of 1/4; one step of the grid is the tolerance.
    assert interval.low == pytest.approx(low, abs=0.25)
    assert interval.high == pytest.approx(high, abs=0.25)


def test_paired_bootstrap_matches_a_slow_loop_with_other_random_numbers() -> None:
    generator = np.random.default_rng(5)
    first = generator.normal(0, 1, (40, 3))
    second = generator.normal(0.5, 1, (40, 3))
    gains = [sum(second[i]) / 3 - sum(first[i]) / 3 for i in range(40)]
    other = random.Random(11)
    means = sorted(sum(other.choice(gains) for _ in range(40)) / 40 for _ in range(8000))
    interval = paired_bootstrap(first, second, 8000, seed=1)
    assert interval.mean == pytest.approx(sum(gains) / 40, abs=1e-12)
    # Two runs of 8,000 resamples agree on an end to about 0.005 (sd of the mean .13 times .03).
    assert interval.low == pytest.approx(means[200], abs=0.02)
    assert interval.high == pytest.approx(means[7800], abs=0.02)


def test_paired_bootstrap_covers_the_true_gain_when_samples_of_a_prompt_are_alike() -> None:
    generator = np.random.default_rng(0)
    hits = {"prompts": 0, "samples": 0}
    for seed in range(200):
        # True gain 0.3; a prompt's own gain varies with sd 1, its 8 samples only with sd 0.2.
        own = generator.normal(0.3, 1, (50, 1))
        second = own + generator.normal(0, 0.2, (50, 8))
        first = np.zeros((50, 8))
        clustered = paired_bootstrap(first, second, 200, seed)
        naive = bootstrap_interval(second.ravel(), 200, seed)
        hits["prompts"] += clustered.low <= 0.3 <= clustered.high
        hits["samples"] += naive.low <= 0.3 <= naive.high
    # 190 of 200 expected, sd 3; the percentile bootstrap of 50 falls a little short of it.
    assert 177 <= hits["prompts"] <= 199
    # An interval from single samples is √8 too narrow: ±0.69 sd covers about half.
    assert hits["samples"] < 140


def test_paired_bootstrap_is_second_minus_first_averaged_within_prompts() -> None:
    first = np.array([[0.0, 2.0], [1.0, 1.0]])
    second = np.array([[3.0, 1.0], [5.0, 2.0]])
    # Prompt gains 2 - 1 = 1 and 3.5 - 1 = 2.5; mean 1.75; every resample lies in [1, 2.5].
    interval = paired_bootstrap(first, second, 500, seed=0)
    assert interval == Interval(mean=1.75, low=1.0, high=2.5)


def test_paired_bootstrap_repeats_for_equal_seeds_only() -> None:
    first, second = np.zeros((30, 1)), np.arange(30.0)[:, None] ** 1.5
    same = [paired_bootstrap(first, second, 200, seed=seed) for seed in (7, 7, 8)]
    assert same[0] == same[1]
    assert same[0] != same[2]


def test_paired_bootstrap_refuses_unlike_prompts() -> None:
    with pytest.raises(DataError, match="2 and 3 prompts"):
        paired_bootstrap(np.zeros((2, 1)), np.zeros((3, 1)), 100, seed=0)


@pytest.mark.parametrize("values", [[4.0], [1.0, math.nan, 2.0], [1.0, math.inf], []])
def test_bootstrap_interval_has_no_ends_when_spread_cannot_be_known(values: list[float]) -> None:
    interval = bootstrap_interval(values, 100, seed=0)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.mean == 4.0 if values == [4.0] else not math.isfinite(interval.mean)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.integers(0, 2**40))
def test_bootstrap_interval_stays_within_the_values(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(values, 100, seed)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


def test_bootstrap_interval_narrows_at_a_lower_level() -> None:
    values = np.random.default_rng(1).normal(size=50)
    wide, narrow = (bootstrap_interval(values, 1000, 0, level) for level in (0.95, 0.5))
    # Half-widths 1.96 sd against 0.67 sd.
    factor = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert factor == pytest.approx(1.96 / 0.674, rel=0.1)


def test_clustered_interval_covers_when_pairs_of_a_prompt_are_alike() -> None:
    generator = np.random.default_rng(6)
    hits = {"prompts": 0, "pairs": 0}
    for seed in range(200):
        prompts = np.repeat(np.arange(60), generator.integers(1, 9, 60))
        values = generator.normal(0.3, 1, 60)[prompts] + generator.normal(0, 0.1, len(prompts))
        table = np.stack([values, np.ones(len(values))], axis=1)
        for name, groups in (("prompts", prompts), ("pairs", np.arange(len(prompts)))):
            found = clustered_interval(table, lambda t: t[:, 0] / t[:, 1], groups, 200, seed)
            hits[name] += found.low <= 0.3 <= found.high
    # 190 of 200 expected, sd 3; a ratio over 60 clusters falls a little short of it.
    assert 176 <= hits["prompts"] <= 199
    assert hits["pairs"] < 160


def test_wilson_interval_matches_worked_example() -> None:
    # 8 of 10, z = 1.959964, z² = 3.841459: scale 1.3841459,
    # centre (.8 + .1920729) / 1.3841459 = .716740, half 1.959964 / 1.3841459
    # x √(.8 x .2 / 10 + 3.841459 / 400) = 1.416010 x √.0256036 = .226578.
    interval = wilson_interval(8, 10)
    assert interval.mean == 0.8
    assert interval.low == pytest.approx(0.490162, abs=2e-6)
    assert interval.high == pytest.approx(0.943318, abs=2e-6)


def test_wilson_interval_has_width_when_every_trial_succeeds() -> None:
    # centre - half = (1 - z²/2n·…) reduces to 1 / (1 + z²/n) = 20 / 23.841459 = .838875.
    interval = wilson_interval(20, 20)
    assert interval.low == pytest.approx(0.838875, abs=1e-6)
    assert interval.high == pytest.approx(1.0)
    mirrored = wilson_interval(0, 20)
    assert mirrored.low == pytest.approx(0.0, abs=1e-15)
    assert mirrored.high == pytest.approx(1 - 0.838875, abs=1e-6)


def test_wilson_interval_knows_nothing_when_there_are_no_trials() -> None:
    interval = wilson_interval(0, 0)
    assert math.isnan(interval.mean)
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(mean=0.162, low=0.1484, high=0.177), "+0.162 [+0.148, +0.177]"),
        (Interval(mean=-1.0, low=-2.0, high=0.0), "-1.000 [-2.000, +0.000]"),
        # A sure but tiny gain keeps its sign instead of turning into +0.000.
        (Interval(mean=0.0004, low=0.0001, high=0.0007), "+4e-04 [+1e-04, +0.001]"),
        (Interval(mean=0.5, low=math.nan, high=math.nan), "+0.500 [no interval]"),
    ],
)
def test_interval_writes_its_signs(interval: Interval, text: str) -> None:
    assert str(interval) == text
