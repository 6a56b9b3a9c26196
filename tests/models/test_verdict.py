"""The verdict on both sides of each bound, and on numbers that are none."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.configs.evaluation import EvaluationConfig
from models.diversity import MatchedDistinct
from models.intervals import Interval
from models.verdict import Evidence, GoodDiversity, Verdict, decide

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
        "512 held-out prompts lies above 0.",
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


@given(*([BROKEN] * 9), st.integers(0, 2), st.booleans())
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
        ),
        CONFIG,
    )
    assert not verdict.accepted
    assert all(reason.endswith(".") for reason in verdict.reasons)
