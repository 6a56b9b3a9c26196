"""Measures of two small sets of samples, all numbers by hand."""

import math

import numpy as np
import pytest

from models.errors import DataError
from models.evaluation.measures import gains, measure, repeated_share
from models.statistics.intervals import Interval
from tests.models.evaluation.by_hand import (
    BOOTSTRAP,
    NAN,
    PPO_IDS,
    SFT_IDS,
    compared,
    compared_samples,
    gold,
    make,
)

ZEROS = [[0.0] * 2] * 2


def test_measures_of_one_model() -> None:
    found = measure(make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]]), BOOTSTRAP)
    assert {name: one.mean for name, one in found.items()} == pytest.approx(
        {
            "score": 2.0,  # 8 / 4
            "kl_to_reference": 1.0,  # half of the scores
            "length": 2.75,  # (3 + 3 + 3 + 2) / 4
            "words": 2.75,  # every token is a word here
            "eos_rate": 0.75,  # [5, 6, 7] has no EOS
            "repetition": 0.0,
            "unique_share": 1.0,
            "distinct_2": 1.0,  # 12 20 34 40 56 67 80
            "distinct_2_words": 1.0,
        }
    )
    assert (found["score"].low, found["score"].high) == (0.5, 3.5)  # the two prompts' means
    assert math.isnan(found["distinct_2"].low)  # pools all samples


def test_measures_of_a_model_that_repeats_itself() -> None:
    found = measure(make(PPO_IDS, ZEROS, gold()), BOOTSTRAP)
    assert found["unique_share"].mean == 0.5  # two wordings of four
    assert found["distinct_2"].mean == 0.5  # 12 20 | 12 20 | 12 20 | 89 90: 4 of 8
    assert found["good_pair_difference"].mean == 0.5  # prompt 1 never, prompt 2 always


def test_repeated_share_counts_four_grams_said_before() -> None:
    # a b a b a b: abab, baba, abab -> 2 distinct of 3
    assert repeated_share(["a", "b", "a", "b", "a", "b"]) == pytest.approx(1 / 3)
    assert repeated_share(["a", "b", "c", "d", "e"]) == 0.0
    assert repeated_share(["a"]) == 0.0


def test_prompts_to_which_an_aspect_does_not_apply_are_left_out() -> None:
    given = gold(refusal=[[NAN, NAN], [1.0, 0.0]], polite=[[1.0, NAN], [1.0, 0.0]])
    found = measure(make(SFT_IDS, ZEROS, given), BOOTSTRAP)
    assert found["refusal"].mean == 0.5  # the second prompt only
    assert found["polite"].mean == 0.75  # prompt means 1 and 0.5
    nowhere = measure(make(SFT_IDS, ZEROS, gold(refusal=[[NAN] * 2] * 2)), BOOTSTRAP)
    assert math.isnan(nowhere["refusal"].mean)


def test_a_broken_score_is_not_hidden() -> None:
    found = measure(make(SFT_IDS, [[0.0, NAN], [1.0, 1.0]]), BOOTSTRAP)
    assert math.isnan(found["score"].mean)


def test_arrays_are_named_in_the_order_in_which_they_are_shown() -> None:
    ends = ["kl_to_reference", "length", "words", "eos_rate", "repetition"]
    assert list(make(SFT_IDS, ZEROS).arrays()) == ["score", *ends]
    judged = make(SFT_IDS, ZEROS, gold(polite=ZEROS), judge=ZEROS)
    assert list(judged.arrays()) == ["score", "judge_score", "gold", "polite", *ends]
    assert judged.good is not None
    assert make(SFT_IDS, ZEROS).good is None


def test_gains_have_intervals() -> None:
    found = compared().comparisons["ppo"].gains
    # Score: prompts 1 - 0.5 and 3.5 - 3.5. Gold: 0.75 - 0.25 and 1 - 0.75.
    assert found["score"] == Interval(mean=0.25, low=0.0, high=0.5)
    assert found["gold"] == Interval(mean=0.375, low=0.25, high=0.5)
    assert found["length"] == Interval(mean=0.25, low=0.0, high=0.5)  # 3 - 3, 3 - 2.5
    # One prompt asks for a refusal: a gain of 1 - 0.5 without an interval.
    assert found["refusal"].mean == 0.5
    assert math.isnan(found["refusal"].low)


def test_ratios_by_hand() -> None:
    assert compared().comparisons["ppo"].ratios == pytest.approx(
        {
            "length_ratio": 3 / 2.75,
            "eos_rate_ratio": 1 / 0.75,
            "distinct_2_ratio": 0.5,
            # [8, 9, 0] is cut to two tokens: 12 20 | 12 20 | 12 20 | 89 is 3 of 7; SFT 7 of 7.
            "length_matched_distinct_2_ratio": 3 / 7,
            "matched_completions": 4.0,
            "matched_distinct_2_ratio": 0.5,
            # Gold 1, 0.5 against 0, 0.5: 3.5 of 4 pairs; 1, 1 against 1, 0.5: 3 of 4.
            "win_rate": 0.8125,
        }
    )


def test_models_measured_differently_are_refused() -> None:
    plain, judged = make(SFT_IDS, ZEROS), make(SFT_IDS, ZEROS, gold())
    with pytest.raises(DataError, match="carry score, kl_to_reference"):
        gains(plain, judged, BOOTSTRAP)
    one = make(SFT_IDS[:1], [[0.0] * 2])
    with pytest.raises(DataError, match=r"model's samples has shape \(1, 2\), wanted \(2, 2\)"):
        gains(plain, one, BOOTSTRAP)


def test_equal_seeds_give_equal_gains() -> None:
    first, second = (gains(*compared_samples(), BOOTSTRAP) for _ in range(2))
    assert first == second
    assert np.isfinite([one.low for one in first.values()]).all()
