"""Win rates against closed forms and scipy: ties, intervals, matrices."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from models.errors import DataError
from models.statistics.controlled import Extent
from models.statistics.intervals import Floats, bootstrap_interval
from models.statistics.win_rates import (
    controlled_rate,
    prompt_preferences,
    win_rates,
    win_rates_of_scores,
)


def alike(scores: Mapping[str, Floats]) -> dict[str, Extent]:
    """Completions that are all as long, and end."""
    return {
        name: Extent(lengths=np.full(one.shape, 9.0), ended=np.ones(one.shape, bool))
        for name, one in scores.items()
    }


def both(values: Floats) -> dict[str, Extent]:
    return alike(dict.fromkeys("ab", values[:, None]))


def test_preferences_equal_the_u_statistic_over_the_number_of_pairs() -> None:
    generator = np.random.default_rng(0)
    row = generator.integers(0, 5, (20, 4)).astype(float)  # few values: many ties
    column = generator.integers(0, 5, (20, 3)).astype(float)
    wanted = [
        stats.mannwhitneyu(one, other).statistic / 12
        for one, other in zip(row, column, strict=True)
    ]
    assert prompt_preferences(row, column) == pytest.approx(wanted, abs=1e-12)


def test_preferences_count_a_tie_half() -> None:
    row, column = np.array([[1.0, 2.0], [3.0, 3.0]]), np.array([[1.0, 1.0], [3.0, 4.0]])
    # prompt 1: ties 1-1, 1-1 and wins 2-1, 2-1: (0.5 + 0.5 + 1 + 1) / 4
    # prompt 2: 3-3 tie, 3-4 lost, twice: (0.5 + 0 + 0.5 + 0) / 4
    assert prompt_preferences(row, column).tolist() == [0.75, 0.25]


def test_preferences_of_a_missing_score_are_missing() -> None:
    found = prompt_preferences(np.array([[1.0], [np.nan]]), np.array([[0.0], [0.0]]))
    assert found[0] == 1.0
    assert math.isnan(found[1])


def test_preferences_refuse_other_prompts() -> None:
    with pytest.raises(DataError, match="got 2 and 3"):
        prompt_preferences(np.zeros((2, 1)), np.zeros((3, 1)))


def test_matrix_is_antisymmetric_with_turned_intervals() -> None:
    generator = np.random.default_rng(1)
    scores = {name: generator.normal(mean, 1, (60, 2)) for mean, name in enumerate("abc")}
    found = win_rates_of_scores(scores, alike(scores), resamples=500, seed=3)
    assert found.models == ("a", "b", "c")
    for row, column in (("a", "b"), ("a", "c"), ("b", "c")):
        one, other = found.of(row, column), found.of(column, row)
        assert one.mean + other.mean == pytest.approx(1, abs=1e-12)
        assert other.low == pytest.approx(1 - one.high, abs=1e-12)
        assert one.low < one.mean < one.high < 0.5  # each is one deviation better than the last
    assert found.of("a", "a").mean == 0.5
    # Means of a against b and c.
    wanted = (found.of("a", "b").mean + found.of("a", "c").mean) / 2
    assert found.mean_of("a") == pytest.approx(wanted, abs=1e-12)
    assert len(list(found.pairs())) == 3


def test_normal_scores_have_the_win_rate_of_the_closed_form() -> None:
    """P(X > Y) = Φ((μx - μy) / √2) for normal scores of deviation 1."""
    generator = np.random.default_rng(2)
    scores = {"x": generator.normal(0.5, 1, (20_000, 1)), "y": generator.normal(0, 1, (20_000, 1))}
    found = win_rates_of_scores(scores, alike(scores), resamples=100, seed=0).of("x", "y")
    wanted = stats.norm.cdf(0.5 / math.sqrt(2))
    assert found.mean == pytest.approx(wanted, abs=0.012)  # four standard errors of 0.5 / √20,000


def test_interval_agrees_with_scipys_bootstrap_over_prompts() -> None:
    generator = np.random.default_rng(4)
    values = generator.choice([0.0, 0.5, 1.0], 200, p=[0.2, 0.2, 0.6])
    found = win_rates(["a", "b"], {("a", "b"): values}, both(values), resamples=4000, seed=0).of(
        "a", "b"
    )
    # Of 200 values the expanded interval of level 0.95 is the plain one of level 0.9519.
    other = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=generator,
        confidence_level=0.9519,
    ).confidence_interval  # fmt: skip
    # Ends of 4,000 resamplings scatter by about 1% of a width of 0.11; five times that.
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.006)


def test_win_of_every_prompt_is_as_sure_as_wilson_says() -> None:
    """All resamples are alike; an interval without width would pass for certainty."""
    scores = {"a": np.ones((6, 3)), "b": np.zeros((6, 3))}
    found = win_rates_of_scores(scores, alike(scores), resamples=100, seed=0)
    wanted = stats.binomtest(6, 6).proportion_ci(method="wilson")
    assert found.of("a", "b").mean == 1.0
    assert found.of("a", "b").low == pytest.approx(wanted.low)
    assert found.of("b", "a").high == pytest.approx(1 - wanted.low)


@pytest.mark.parametrize("won", [1.0, 0.0])
def test_win_of_every_prompt_at_equal_length_is_no_surer(won: float) -> None:
    generator = np.random.default_rng(3)
    baseline, model = (
        Extent(lengths=lengths, ended=np.ones((40, 1), bool))
        for lengths in generator.integers(3, 30, (2, 40, 1)).astype(float)
    )
    preferences = np.full(40, won)
    preferences[:10] = np.nan  # not judged
    found = controlled_rate(preferences, baseline, model)
    wanted = stats.binomtest(int(30 * won), 30).proportion_ci(method="wilson")
    assert (found.mean, found.low, found.high) == pytest.approx((won, wanted.low, wanted.high))


def test_intervals_resample_prompts_and_not_samples() -> None:
    """Sixteen equal samples of a prompt say no more than one of them."""
    generator = np.random.default_rng(5)
    once = {name: generator.normal(0, 1, (50, 1)) for name in "ab"}
    often = {name: np.repeat(values, 4, axis=1) for name, values in once.items()}
    one = win_rates_of_scores(once, alike(once), resamples=400, seed=0).of("a", "b")
    other = win_rates_of_scores(often, alike(often), resamples=400, seed=0).of("a", "b")
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)


def test_interval_holds_its_level_between_equal_models() -> None:
    """200 draws: a binomial of 0.95 falls below 0.90 once in a thousand."""
    generator = np.random.default_rng(6)
    covered = 0
    for draw in range(200):
        scores = {name: generator.normal(0, 1, (100, 2)) for name in "ab"}
        found = win_rates_of_scores(scores, alike(scores), resamples=200, seed=draw).of("a", "b")
        covered += found.low <= 0.5 <= found.high
    assert covered / 200 >= 0.90


def test_a_pair_keeps_its_interval_whatever_else_is_compared() -> None:
    generator = np.random.default_rng(7)
    scores = {name: generator.normal(0, 1, (30, 2)) for name in "abc"}
    all_three = win_rates_of_scores(scores, alike(scores), resamples=200, seed=1).of("a", "b")
    two = {name: scores[name] for name in "ab"}
    assert win_rates_of_scores(two, alike(two), resamples=200, seed=1).of("a", "b") == all_three


def test_prompts_that_were_not_judged_are_left_out() -> None:
    values = np.array([1.0, np.nan, 0.0, 1.0])
    found = win_rates(["a", "b"], {("a", "b"): values}, both(values), resamples=100, seed=0)
    assert found.of("a", "b").mean == pytest.approx(2 / 3)
    assert found.prompts["a", "b"] == 3


def test_one_model_alone_has_no_win_rate() -> None:
    scores = {"a": np.zeros((3, 2))}
    found = win_rates_of_scores(scores, alike(scores), resamples=100, seed=0)
    assert list(found.pairs()) == []
    assert math.isnan(found.mean_of("a"))


def test_interval_of_few_values_is_as_wide_as_students() -> None:
    """Of symmetrical values, where resampled means are nearly normal."""
    values = np.array([0.0, 0.5, 0.5, 1.0] * 5)
    found = win_rates(["a", "b"], {("a", "b"): values}, both(values), resamples=20_000, seed=0).of(
        "a", "b"
    )
    half = stats.t.ppf(0.975, 19) * values.std(ddof=1) / math.sqrt(20)
    # Means of 20 such values lie 0.025 apart: an end may be off by half of it.
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.0126)
    plain = bootstrap_interval(values, 20_000, 0)
    assert found.high - found.low > plain.high - plain.low


def test_a_win_rate_at_equal_length_is_turned_and_stays_a_share() -> None:
    generator = np.random.default_rng(8)
    values = (generator.random(80) < 0.9).astype(float)
    lengths = generator.integers(3, 30, (2, 80, 1)).astype(float)
    values[lengths[0, :, 0] < lengths[1, :, 0]] = 1.0  # the shorter one always wins
    extents = {
        name: Extent(lengths=one, ended=np.ones((80, 1), bool))
        for name, one in zip("ab", lengths, strict=True)
    }
    found = win_rates(["a", "b"], {("a", "b"): values}, extents, resamples=50, seed=0)
    one, other = found.controlled_of("a", "b"), found.controlled_of("b", "a")
    assert one.mean == pytest.approx(1 - other.mean, abs=1e-12)
    assert 0 <= one.low < one.mean < one.high <= 1
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)
    assert math.isnan(found.controlled_of("a", "a").mean)
