"""Diversity against counts by hand and slow loops over all pairs."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.statistics.diversity import (
    distinct_n,
    good_pair_difference,
    length_matched_ratio,
    matched_distinct_2,
    unique_share,
)


def test_distinct_n_counts_grams_within_completions_only() -> None:
    completions = [list("abab"), list("abc")]
    # Bigrams ab ba ab | ab bc: 3 distinct of 5. A pair "b a" across the two is not counted.
    assert distinct_n(completions) == pytest.approx(3 / 5)
    # Single words a b a b a b c: 3 of 7. Triples aba bab abc: 3 of 3.
    assert distinct_n(completions, 1) == pytest.approx(3 / 7)
    assert distinct_n(completions, 3) == 1.0


def test_distinct_n_reads_token_ids() -> None:
    # (1,2) (2,3) (1,2): 2 of 3.
    assert distinct_n([[1, 2, 3], [1, 2]]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("completions", [[], [[]], [["one"], []]])
def test_distinct_n_is_nan_when_no_completion_is_long_enough(completions: list[list[str]]) -> None:
    assert math.isnan(distinct_n(completions))


def test_length_matched_ratio_cuts_both_to_the_shorter() -> None:
    first = [list("abcdef"), list("ab")]
    second = [list("aba"), list("xyz")]
    # Cut to 3 and 2 words: first ab bc | ab = 2 of 3, second ab ba | xy = 3 of 3.
    assert length_matched_ratio(first, second) == pytest.approx(1 / (2 / 3))


def test_length_matched_ratio_is_one_when_one_only_says_less() -> None:
    long = [[i, i + 1, i + 2, 0, 0, 0, 0] for i in range(10)]
    short = [completion[:3] for completion in long]
    assert distinct_n(short) > distinct_n(long)  # what brevity alone would earn
    assert length_matched_ratio(long, short) == 1.0


def test_length_matched_ratio_is_nan_when_one_model_says_nothing() -> None:
    assert math.isnan(length_matched_ratio([["a", "b"]], [[]]))


def test_unique_share_counts_wordings_over_all_prompts() -> None:
    assert unique_share(["yes", "no", "yes", "yes"]) == 0.5  # 2 of 4
    assert math.isnan(unique_share([]))


def test_good_pair_difference_weighs_prompts_alike() -> None:
    groups = [["a", "a", "b"], ["c", "d"], ["e"], []]
    # Prompt 1: pairs aa ab ab differ 2/3; prompt 2: 1/1; the others have no pair.
    # Mean (2/3 + 1) / 2 = 5/6; pooled over pairs it would be 3/4.
    assert good_pair_difference(groups) == pytest.approx(5 / 6)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=6))
def test_good_pair_difference_matches_a_loop_over_all_pairs(groups: list[list[str]]) -> None:
    shares = []
    for group in groups:
        pairs = list(itertools.combinations(group, 2))
        if pairs:
            shares.append(sum(one != other for one, other in pairs) / len(pairs))
    measured = good_pair_difference(groups)
    if shares:
        assert measured == pytest.approx(sum(shares) / len(shares))
    else:
        assert math.isnan(measured)


def test_matched_distinct_2_takes_as_many_of_each_prompt_from_both() -> None:
    sft = [[["a", "b"], ["c", "d"]], [["e", "f"]], [["g", "h"]]]
    ppo = [[["a", "b"]], [["a", "b"], ["y", "z"]], []]
    # min(2, 1) = 1, min(1, 2) = 1, min(1, 0) = 0: two completions of each.
    # SFT ab | ef: 2 of 2. PPO ab | ab: 1 of 2.
    matched = matched_distinct_2(sft, ppo, min_completions=2)
    assert (matched.completions, matched.sft, matched.ppo) == (2, 1.0, 0.5)
    assert matched.ratio == 0.5


def test_matched_distinct_2_measures_nothing_when_too_few_match() -> None:
    group = [[["a", "b"]]]
    enough = matched_distinct_2(group * 100, group * 100)
    short = matched_distinct_2(group * 99, group * 99)
    assert (enough.completions, enough.ratio) == (100, 1.0)
    assert short.completions == 99
    assert math.isnan(short.ratio)


def test_matched_distinct_2_ratio_is_nan_when_good_completions_have_no_pair_of_tokens() -> None:
    assert math.isnan(matched_distinct_2([[["a"]]], [[["a"]]], min_completions=1).ratio)
