"""The verdict on both sides of each bound, and on numbers that are none."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.checks import Verdict, decide
from models.evaluation.config import EvaluationConfig
from models.evaluation.evidence import (
    GOLD_JUDGE,
    HELD_OUT_JUDGE,
    OWN_JUDGE,
    Evidence,
    GoodDiversity,
)
from models.statistics.diversity import MatchedDistinct
from models.statistics.intervals import Interval

CONFIG = EvaluationConfig()


def evidence(**changes: Any) -> Evidence:
    """Evidence that passes every check without a gold judge, changed where told."""
    sound = Evidence(
        judge="reward model",
        gain=Interval(mean=0.5, low=0.4, high=0.6),
        prompts=512,
        finite={"PPO's score": 0.5, "PPO's kl_to_reference": 1.0},
        length_sft=10.0,
        length_ppo=10.0,
        eos_rate_sft=1.0,
        eos_rate_ppo=1.0,
        distinct_2_sft=0.5,
        distinct_2_ppo=0.5,
        good=None,
    )
    return dataclasses.replace(sound, **changes)


def gold_evidence(pair: float = 0.8, count: int = 400, ratio: float = 0.9) -> Evidence:
    """Evidence with a gold judge: SFT's matched distinct-2 is 0.5."""
    matched = MatchedDistinct(completions=count, sft=0.5, ppo=0.5 * ratio)
    good = GoodDiversity(pair_difference=pair, matched=matched)
    return evidence(judge="gold judge", good=good)


def failed(verdict: Verdict) -> list[str]:
    """Names of the failed checks; acceptance must agree with there being none."""
    names = [check.name for check in verdict.checks if not check.passed]
    assert verdict.accepted == (not names)
    return names


def test_verdict_accepts_sound_evidence_with_every_reason() -> None:
    verdict = decide(evidence(), CONFIG)
    assert verdict.accepted
    assert verdict.reasons == (
        "The gain by the reward model is +0.500 [+0.400, +0.600]: the 95% interval over "
        "512 held-out prompts lies above 0. PPO was trained on this same reward model, so "
        "over-optimisation cannot be ruled out.",
        "All scores and KL estimates are finite.",
        "Mean length is 10.0 tokens against SFT's 10.0, a ratio of 1.000, within 0.7 to 1.4.",
        "Distinct-2 is 1.000 of SFT's, at least the 0.8 wanted.",
        "1.000 of the completions end by themselves against SFT's 1.000, a ratio of 1.000, "
        "at least the 0.8 wanted.",
    )


def test_verdict_gives_only_failed_reasons_when_rejected() -> None:
    verdict = decide(evidence(length_ppo=5.0), CONFIG)
    assert verdict.reasons == (
        "Mean length is 5.0 tokens against SFT's 10.0, a ratio of 0.500, outside 0.7 to 1.4.",
    )
    assert len(verdict.checks) == 5


@pytest.mark.parametrize(("low", "passes"), [(1e-6, True), (0.0, False), (-0.1, False)])
def test_verdict_wants_the_whole_interval_above_zero(low: float, passes: bool) -> None:
    verdict = decide(evidence(gain=Interval(mean=0.5, low=low, high=0.6)), CONFIG)
    assert failed(verdict) == ([] if passes else ["judged_gain"])


@pytest.mark.parametrize(
    ("ppo", "passes"), [(6.99, False), (7.0, True), (14.0, True), (14.01, False)]
)
def test_verdict_bounds_the_length_ratio_on_both_sides(ppo: float, passes: bool) -> None:
    assert failed(decide(evidence(length_ppo=ppo), CONFIG)) == ([] if passes else ["length_ratio"])


@pytest.mark.parametrize(
    ("sft", "ppo", "passes"), [(1.0, 0.8, True), (0.9, 0.72, True), (1.0, 0.79, False)]
)
def test_verdict_bounds_the_eos_ratio(sft: float, ppo: float, passes: bool) -> None:
    # 0.72 / 0.9 is exactly 0.8, but 0.7999999999999999 in floats.
    verdict = decide(evidence(eos_rate_sft=sft, eos_rate_ppo=ppo), CONFIG)
    assert failed(verdict) == ([] if passes else ["eos_ratio"])


def test_verdict_says_so_when_sft_never_ended_a_completion() -> None:
    verdict = decide(evidence(eos_rate_sft=0.0, eos_rate_ppo=0.0), CONFIG)
    assert verdict.accepted
    assert "no EOS rate that could have collapsed" in verdict.reasons[-1]


@pytest.mark.parametrize(("ppo", "passes"), [(0.4, True), (0.399, False)])
def test_verdict_bounds_distinct_2_when_there_is_no_gold_judge(ppo: float, passes: bool) -> None:
    # 0.4 / 0.5 = 0.8.
    verdict = decide(evidence(distinct_2_ppo=ppo), CONFIG)
    assert failed(verdict) == ([] if passes else ["distinct_2_ratio"])


def test_verdict_ignores_pooled_distinct_2_when_there_is_a_gold_judge() -> None:
    assert decide(dataclasses.replace(gold_evidence(), distinct_2_ppo=0.1), CONFIG).accepted


@pytest.mark.parametrize(("pair", "passes"), [(0.5, True), (0.499, False), (0.0, False)])
def test_verdict_bounds_the_good_pair_difference(pair: float, passes: bool) -> None:
    verdict = decide(gold_evidence(pair=pair), CONFIG)
    assert failed(verdict) == ([] if passes else ["good_pair_difference"])


@pytest.mark.parametrize(("ratio", "passes"), [(0.7, True), (0.699, False)])
def test_verdict_bounds_matched_distinct_2(ratio: float, passes: bool) -> None:
    verdict = decide(gold_evidence(ratio=ratio), CONFIG)
    assert failed(verdict) == ([] if passes else ["matched_distinct_2_ratio"])


def test_verdict_needs_a_hundred_matched_completions() -> None:
    assert decide(gold_evidence(count=100), CONFIG).accepted
    verdict = decide(gold_evidence(count=99), CONFIG)
    assert failed(verdict) == ["matched_distinct_2_ratio"]
    assert verdict.reasons == (
        "Only 99 good completions of SFT and PPO could be matched by prompt; at least 100 are "
        "needed to compare their diversity.",
    )


def test_verdict_says_so_when_there_are_no_good_samples() -> None:
    verdict = decide(gold_evidence(pair=math.nan, count=0, ratio=math.nan), CONFIG)
    assert failed(verdict) == ["good_pair_difference", "matched_distinct_2_ratio"]
    assert verdict.reasons[0].startswith("No prompt has two good samples of PPO")


def test_verdict_says_so_when_one_prompt_gives_no_interval() -> None:
    gain = Interval(mean=0.5, low=math.nan, high=math.nan)
    verdict = decide(evidence(gain=gain, prompts=1), CONFIG)
    assert failed(verdict) == ["judged_gain"]
    assert "has no interval: it rests on 1 held-out prompt" in verdict.reasons[0]


def test_verdict_names_the_numbers_that_are_not_finite() -> None:
    verdict = decide(evidence(finite={"PPO's score": 1.0, "PPO's gold": math.nan}), CONFIG)
    assert failed(verdict) == ["finite_numbers"]
    assert verdict.reasons == ("Not every number is finite: PPO's gold is nan.",)


def test_verdict_takes_its_bounds_from_the_config() -> None:
    strict = EvaluationConfig(
        min_length_ratio=1.1,
        min_eos_ratio=1.1,
        min_distinct_2_ratio=1.1,
    )
    names = failed(decide(evidence(), strict))
    assert names == ["length_ratio", "distinct_2_ratio", "eos_ratio"]
    strict = EvaluationConfig(
        max_length_ratio=0.9,
        min_good_pair_difference=0.9,
        min_matched_distinct_2_ratio=0.95,
    )
    names = failed(decide(gold_evidence(), strict))
    assert names == ["length_ratio", "good_pair_difference", "matched_distinct_2_ratio"]
    strict = EvaluationConfig(min_matched_completions=401)
    assert failed(decide(gold_evidence(), strict)) == ["matched_distinct_2_ratio"]


RISE = Interval(mean=1.25, low=1.0, high=1.5)
FALL = Interval(mean=-0.5, low=-0.625, high=-0.375)
UNSURE = Interval(mean=0.0, low=-0.125, high=0.125)
NONE = Interval(mean=0.0, low=0.0, high=0.0)
UNKNOWN = Interval(mean=1.0, low=math.nan, high=math.nan)


@pytest.mark.parametrize("judge", [GOLD_JUDGE, HELD_OUT_JUDGE])
def test_verdict_finds_over_optimisation_by_an_independent_judge(judge: str) -> None:
    verdict = decide(evidence(judge=judge, gain=FALL, score_gain=RISE), CONFIG)
    assert failed(verdict) == ["judged_gain", "overoptimisation"]
    assert verdict.reasons[1] == (
        "The score by PPO's own reward model rose by +1.250 [+1.000, +1.500], "
        f"the {judge} says -0.500 [-0.625, -0.375]: the reward model was over-optimised."
    )


@pytest.mark.parametrize(
    ("score", "gain", "found", "finding"),
    [
        (RISE, NONE, True, "over-optimised"),  # at zero: no gain at all
        (RISE, UNSURE, False, "neither shown nor ruled out"),
        (RISE, RISE, False, "no sign"),
        (UNSURE, FALL, False, "neither shown nor ruled out"),  # the score may have risen
        (FALL, FALL, False, "no sign"),  # bad, but not for having believed the reward model
        (UNKNOWN, FALL, False, "neither shown nor ruled out"),
        (RISE, UNKNOWN, False, "neither shown nor ruled out"),
    ],
)
def test_over_optimisation_wants_a_sure_rise_and_surely_no_gain(
    score: Interval, gain: Interval, found: bool, finding: str
) -> None:
    given = evidence(judge=GOLD_JUDGE, score_gain=score, gain=gain)
    (check,) = [c for c in decide(given, CONFIG).checks if c.name == "overoptimisation"]
    assert given.overoptimised is found
    assert (check.passed, check.value) == (not found, float(found))
    assert finding in check.sentence


def test_a_second_reward_model_is_not_taken_for_a_gold_judge() -> None:
    held_out, gold = (
        decide(evidence(judge=judge, score_gain=RISE), CONFIG).checks[1].sentence
        for judge in (HELD_OUT_JUDGE, GOLD_JUDGE)
    )
    assert "may share the first one's errors" in held_out
    assert gold.endswith("no sign of over-optimisation.")


def test_over_optimisation_is_unknown_when_only_ppos_own_reward_model_judges() -> None:
    given = evidence(judge=OWN_JUDGE, gain=RISE, score_gain=RISE)
    assert given.overoptimised is None
    verdict = decide(given, CONFIG)
    assert "overoptimisation" not in [check.name for check in verdict.checks]
    assert "cannot be ruled out" in verdict.reasons[0]
    independent = decide(evidence(judge=HELD_OUT_JUDGE, score_gain=RISE), CONFIG)
    assert not any("cannot be ruled out" in reason for reason in independent.reasons)


@pytest.mark.parametrize(
    ("kl", "passes"), [(-0.1, True), (10.0, True), (10.01, False), (math.inf, False)]
)
def test_verdict_bounds_the_kl_to_the_reference(kl: float, passes: bool) -> None:
    verdict = decide(evidence(kl_to_reference=kl), CONFIG)
    assert failed(verdict) == ([] if passes else ["kl_to_reference"])


def test_verdict_says_how_far_the_policy_moved() -> None:
    verdict = decide(evidence(kl_to_reference=38.8), CONFIG)
    assert verdict.reasons == (
        "Mean KL to the reference is 38.80 nats a completion, more than the 10 wanted.",
    )


def test_verdict_has_no_bound_on_the_kl_when_told_so() -> None:
    unbounded = EvaluationConfig(max_kl_to_reference=None)
    verdict = decide(evidence(kl_to_reference=1e6), unbounded)
    assert failed(verdict) == []
    assert "kl_to_reference" not in [check.name for check in verdict.checks]


BROKEN = st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


@given(
    st.sampled_from(["gain", "length_ppo", "length_sft", "distinct_2_ppo", "eos_rate_ppo"]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_verdict_rejects_any_number_that_is_not_finite(name: str, value: float) -> None:
    change = Interval(mean=value, low=value, high=value) if name == "gain" else value
    verdict = decide(evidence(**{name: change}), CONFIG)
    assert not verdict.accepted
    assert verdict.reasons


@given(*([BROKEN] * 10), st.integers(0, 2), st.booleans())
def test_verdict_never_raises(
    mean: float,
    low: float,
    high: float,
    length_sft: float,
    length_ppo: float,
    eos_sft: float,
    eos_ppo: float,
    distinct_sft: float,
    distinct_ppo: float,
    kl: float,
    prompts: int,
    gold: bool,
) -> None:
    matched = MatchedDistinct(completions=200, sft=distinct_sft, ppo=distinct_ppo)
    verdict = decide(
        Evidence(
            judge="gold judge",
            gain=Interval(mean=mean, low=low, high=high),
            prompts=prompts,
            finite={},
            length_sft=length_sft,
            length_ppo=length_ppo,
            eos_rate_sft=eos_sft,
            eos_rate_ppo=eos_ppo,
            distinct_2_sft=distinct_sft,
            distinct_2_ppo=distinct_ppo,
            good=GoodDiversity(pair_difference=mean, matched=matched) if gold else None,
            score_gain=Interval(mean=mean, low=low, high=high),
            kl_to_reference=kl,
        ),
        CONFIG,
    )
    assert not verdict.accepted
    assert all(reason.endswith(".") for reason in verdict.reasons)
