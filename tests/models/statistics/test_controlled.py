"""The gain at equal length and ending: against slow oracles, and where the truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from models.errors import DataError
from models.statistics.controlled import Extent, controlled_gain
from models.statistics.intervals import Floats
from tests.models.statistics.simulated import CASES, LIKINGS, draw


def extent(lengths: Floats, ended: object = True) -> Extent:
    return Extent(lengths=lengths, ended=np.broadcast_to(np.asarray(ended), lengths.shape))


def test_without_differences_it_is_the_mean_with_students_interval() -> None:
    gains = np.random.default_rng(0).normal(0.3, 1, 50)
    lengths = np.full((50, 2), 7.0)
    found = controlled_gain(gains, extent(lengths), extent(lengths))
    wanted = stats.t.interval(0.95, 49, gains.mean(), gains.std(ddof=0) / math.sqrt(50) * 50 / 49)
    assert found.mean == pytest.approx(gains.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-9)


def spline(lengths: Floats, knots: Floats) -> Floats:
    """Harrell's formula 2.24, knot by knot."""
    columns = [lengths]
    last, before = knots[-1], knots[-2]
    for knot in knots[:-2]:
        cubes = np.maximum(lengths - knot, 0) ** 3
        cubes = cubes - np.maximum(lengths - before, 0) ** 3 * (last - knot) / (last - before)
        cubes = cubes + np.maximum(lengths - last, 0) ** 3 * (before - knot) / (last - before)
        columns.append(cubes)
    return np.stack(columns, axis=-1)


def test_it_is_the_intercept_with_a_jackknifes_error() -> None:
    generator = np.random.default_rng(1)
    gains, baseline, model = draw(CASES["gain, shorter"], "logarithm", 60, 3, generator)
    lengths = np.concatenate([baseline.lengths.ravel(), model.lengths.ravel()])
    knots = np.quantile(lengths, [0.1, 0.5, 0.9])
    columns = [
        np.column_stack([spline(one.lengths, knots).mean(axis=1), 1 - one.ended.mean(axis=1)])
        for one in (baseline, model)
    ]
    design = np.column_stack([np.ones(60), columns[1] - columns[0]])

    def fit(rows: object) -> float:
        return float(np.linalg.lstsq(design[rows], gains[rows], rcond=None)[0][0])

    every = np.arange(60)
    intercept = fit(every)
    without = [fit(every != prompt) for prompt in range(60)]
    error = math.sqrt(sum((one - intercept) ** 2 for one in without))
    found = controlled_gain(gains, baseline, model)
    assert found.mean == pytest.approx(intercept, rel=1e-6)
    assert found.high - found.mean == pytest.approx(found.mean - found.low, rel=1e-9)
    # Student's quantile is that of as many degrees as prompts that the intercept hangs on.
    low, high = (stats.t.ppf(0.975, degrees) for degrees in (60 - design.shape[1], 10))
    assert low <= (found.high - found.mean) / error <= high


@pytest.mark.parametrize("liking", LIKINGS)
def test_no_gain_is_found_where_only_length_and_ending_changed(liking: str) -> None:
    for name, case in CASES.items():
        generator = np.random.default_rng(2)
        drawn = [controlled_gain(*draw(case, liking, 128, 2, generator)) for _ in range(100)]
        covered = sum(one.low <= case.gain <= one.high for one in drawn)
        assert covered >= 88, (name, covered)  # of a true 95, 1 of 1,000 draws of 100 has fewer
        if not case.gain:
            # 0.025 are to be expected; 9 or more of 100 come by chance once in 1,000 times.
            assert sum(one.low > 0 for one in drawn) <= 8, name


def test_a_gain_is_found_though_completions_are_shorter() -> None:
    generator = np.random.default_rng(3)
    case = CASES["gain, shorter"]
    drawn = [controlled_gain(*draw(case, "straight", 512, 4, generator)) for _ in range(40)]
    assert sum(one.low > 0 for one in drawn) >= 32


def test_what_only_one_kind_of_pairs_shows_is_not_told() -> None:
    gains = np.random.default_rng(4).normal(2, 1, 64)
    lengths = np.random.default_rng(5).integers(3, 30, (2, 64, 1)).astype(float)
    never, always = (extent(one, ended) for one, ended in zip(lengths, (False, True), strict=True))
    assert math.isnan(controlled_gain(gains, never, always).low)
    longer = extent(lengths[0] * 0 + 20)
    assert math.isnan(controlled_gain(gains, extent(lengths[0] * 0 + 10), longer).low)


def test_what_hangs_on_one_prompt_is_not_told() -> None:
    gains = np.random.default_rng(6).normal(2, 1, 64)
    lengths = np.full((64, 1), 9.0)
    ended = np.zeros((64, 1), bool)
    ended[0] = True  # the only prompt on which both end
    assert math.isnan(controlled_gain(gains, extent(lengths, ended), extent(lengths)).low)


def test_the_fewer_prompts_it_hangs_on_the_wider_it_is() -> None:
    gains = np.random.default_rng(7).normal(0, 1, 200)
    lengths = np.full((200, 1), 9.0)
    widths = []
    for alike in (100, 5):
        ended = np.zeros((200, 1), bool)
        ended[:alike] = True
        found = controlled_gain(gains, extent(lengths, ended), extent(lengths))
        assert found.mean == pytest.approx(gains[:alike].mean(), rel=1e-9)
        widths.append((found.high - found.low) / gains[:alike].std(ddof=1) * math.sqrt(alike) / 2)
    assert widths[0] == pytest.approx(stats.t.ppf(0.975, 99), rel=0.02)
    assert widths[1] > stats.t.ppf(0.975, 5)  # not the 1.97 of 198 degrees


def test_prompts_without_a_judgement_are_left_out() -> None:
    generator = np.random.default_rng(8)
    gains, baseline, model = draw(CASES["gain"], "none", 60, 1, generator)
    kept = controlled_gain(
        gains[:50], *(extent(one.lengths[:50], one.ended[:50]) for one in (baseline, model))
    )
    gains[50:] = np.nan
    assert controlled_gain(gains, baseline, model) == kept
    gains[0] = np.inf
    assert math.isnan(controlled_gain(gains, baseline, model).mean)
    assert math.isnan(controlled_gain(np.full(60, np.nan), baseline, model).mean)


def test_too_few_prompts_tell_nothing() -> None:
    generator = np.random.default_rng(9)
    assert math.isnan(controlled_gain(*draw(CASES["gain"], "none", 5, 1, generator)).low)


def test_other_prompts_are_refused() -> None:
    lengths = np.ones((3, 1))
    with pytest.raises(DataError, match="of 4, 3 and 3 prompts"):
        controlled_gain(np.zeros(4), extent(lengths), extent(lengths))
