"""The checks on both sides of each bound, on numbers that are none, and how often chance passes."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from models.evaluation.checks import MIN_PROMPTS, Evidence, GoodDiversity, Sides, Verdict, decide
from models.evaluation.config import Bounds
from models.evaluation.wording import (
    bullet_list,
    cautions,
    headline,
    reasons,
    sentence,
    verdict_word,
)
from models.statistics.diversity import MatchedDistinct
from models.statistics.intervals import Interval, paired_bootstrap

BOUNDS = Bounds()
NAMES = ("SFT", "PPO")
NAN, INF = math.nan, math.inf


def evidence(**changes: Any) -> Evidence:
    """Evidence that passes every check without a gold judge, changed where told."""
    sound = Evidence(
        judge="reward",
        gain=Interval(mean=0.5, low=0.4, high=0.6),
        controlled=Interval(mean=0.4, low=0.3, high=0.5),
        prompts=512,
        finite={"PPO's score": 0.5, "PPO's kl_to_reference": 1.0},
        length=Sides(baseline=10.0, model=10.0),
        eos_rate=Sides(baseline=1.0, model=1.0),
        distinct_2=Sides(baseline=0.5, model=0.5),
    )
    return dataclasses.replace(sound, **changes)


def good(pair: float = 0.8, count: int = 400, ratio: float = 0.9) -> GoodDiversity:
    """What a gold judge tells of diversity; the baseline's matched distinct-2 is 0.5."""
    matched = MatchedDistinct(completions=count, sft=0.5, ppo=0.5 * ratio)
    return GoodDiversity(pair_difference=pair, matched=matched)


def gold_evidence(**changes: Any) -> Evidence:
    return evidence(judge="gold", good=good(**changes))


def test_the_headline_leaves_out_what_is_not_known() -> None:
    gain = Interval(mean=0.1236, low=0.0991, high=0.1492)
    whole = decide(evidence(judge="gold", gain=gain, kl_to_reference=1.64, good=good()), BOUNDS)
    assert headline(whole) == (
        "accepted, gold +0.124 [+0.099, +0.149], at equal length +0.400 [+0.300, +0.500], KL 1.6"
    )
    none = Interval(mean=NAN, low=NAN, high=NAN)
    nothing = evidence(judge="judge", gain=none, controlled=none)
    assert headline(decide(nothing, BOUNDS)) == "rejected"


def said(verdict: Verdict) -> list[str]:
    return reasons(verdict, NAMES)


def failed(verdict: Verdict) -> list[str]:
    """Names of the failed checks; acceptance must agree with there being none."""
    names = [check.name for check in verdict.checks if not check.passed]
    assert verdict.accepted == (not names)
    assert verdict_word(verdict) == (
        "not enough prompts" if "prompts" in names else "rejected" if names else "accepted"
    )
    shown = [c for c in verdict.checks if not names or not c.passed]
    first = [c for c in shown if c.caution]
    wanted = [sentence(c, verdict, NAMES) for c in first + [c for c in shown if not c.caution]]
    assert said(verdict) == wanted
    return names


def test_sound_evidence_is_accepted_with_every_reason() -> None:
    verdict = decide(evidence(kl_to_reference=1.6), BOUNDS)
    assert failed(verdict) == []
    assert said(verdict) == [
        "Measured on 512 held-out prompts, at least the 30 needed.",
        "The gain by the reward model is +0.500 [+0.400, +0.600]: the 95% interval over "
        "512 held-out prompts lies above 0. The model was trained against this same reward model, "
        "so over-optimisation cannot be ruled out.",
        "At equal length and ending the gain is +0.400 [+0.300, +0.500]: above 0 as well.",
        "All scores and KL estimates are finite.",
        "Mean KL to the reference is 1.60 nats per completion, at most the 10 wanted.",
        "Mean length is 10.0 tokens against SFT's 10.0, a ratio of 1.000, within 0.5 to 2.",
        "Distinct-2 is 1.000 of SFT's, at least the 0.8 wanted.",
        "1.000 of the completions end by themselves against SFT's 1.000, a ratio of 1.000, "
        "at least the 0.8 wanted.",
        "Its training raised no alarm.",
    ]
    assert bullet_list(verdict, NAMES) == [f"- passed: {one}" for one in said(verdict)]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("prompts", {"prompts": 29}),
        ("judged_gain", {"gain": Interval(mean=0.5, low=0.0, high=0.6)}),
        ("judged_gain", {"gain": Interval(mean=0.2, low=-0.1, high=0.5)}),
        ("judged_gain", {"gain": Interval(mean=0.2, low=NAN, high=NAN)}),
        ("judged_gain", {"gain": Interval(mean=0.2, low=0.1, high=INF)}),
        ("controlled_gain", {"controlled": Interval(mean=0.5, low=0.0, high=1.0)}),
        ("controlled_gain", {"controlled": Interval(mean=0.2, low=NAN, high=NAN)}),
        ("controlled_gain", {"controlled": Interval(mean=NAN)}),
        ("finite_numbers", {"finite": {"PPO's score": 1.0, "PPO's gold": NAN}}),
        ("kl_to_reference", {"kl_to_reference": 10.01}),
        ("kl_to_reference", {"kl_to_reference": NAN}),
        ("kl_to_reference", {"kl_to_reference": INF}),
        ("length_ratio", {"length": Sides(baseline=10.0, model=4.99)}),
        ("length_ratio", {"length": Sides(baseline=10.0, model=20.01)}),
        ("length_ratio", {"length": Sides(baseline=0.0, model=0.0)}),
        ("eos_ratio", {"eos_rate": Sides(baseline=1.0, model=0.79)}),
        ("eos_ratio", {"eos_rate": Sides(baseline=0.0, model=NAN)}),
        ("distinct_2_ratio", {"distinct_2": Sides(baseline=0.5, model=0.399)}),
        ("good_pair_difference", {"good": good(pair=0.499)}),
        ("good_pair_difference", {"good": good(pair=0.0)}),
        ("matched_distinct_2_ratio", {"good": good(ratio=0.699)}),
        ("matched_distinct_2_ratio", {"good": good(ratio=0.99, count=99)}),
        ("alarms", {"alarms": {"hacking": 3}}),
    ],
)
def test_each_check_alone_rejects(name: str, changes: dict[str, Any]) -> None:
    verdict = decide(evidence(**changes), BOUNDS)
    assert failed(verdict) == [name]
    (text,) = said(verdict)
    assert f"- **failed**: {text}" in bullet_list(verdict, NAMES)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": MIN_PROMPTS},
        {"gain": Interval(mean=0.5, low=1e-6, high=0.6)},
        {"kl_to_reference": 10.0},
        {"kl_to_reference": -0.1},  # the k1 estimator may come out below zero by chance
        {"controlled": Interval(mean=0.5, low=1e-6, high=0.6)},
        {"length": Sides(baseline=10.0, model=5.0)},
        {"length": Sides(baseline=10.0, model=20.0)},
        {"eos_rate": Sides(baseline=1.0, model=0.8)},
        {"eos_rate": Sides(baseline=0.9, model=0.72)},  # 0.8, but 0.7999999999999999 in floats
        {"eos_rate": Sides(baseline=0.0, model=0.0)},
        {"distinct_2": Sides(baseline=0.5, model=0.4)},
        {"good": good(), "distinct_2": Sides(baseline=0.5, model=0.1)},  # good ones count instead
        {"good": good(pair=0.5)},
        {"good": good(ratio=0.7, count=100)},
        {"alarms": {"hacking": 0, "length": 1}},
    ],
)
def test_checks_pass_at_their_bounds(changes: dict[str, Any]) -> None:
    assert failed(decide(evidence(**changes), BOUNDS)) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"prompts": 4}, "Measured on 4 held-out prompts, fewer than the 30 needed."),
        (
            {"gain": Interval(mean=0.5, low=NAN, high=NAN)},
            "The gain by the reward model (+0.500) has no finite interval.",
        ),
        (
            {"finite": {"PPO's score": 1.0, "PPO's gold": NAN}},
            "Not every number is finite: PPO's gold is nan.",
        ),
        (
            {"kl_to_reference": 38.8},
            "Mean KL to the reference is 38.80 nats per completion, more than the 10 wanted.",
        ),
        (
            {"length": Sides(baseline=10.0, model=4.5)},
            "Mean length is 4.5 tokens against SFT's 10.0, a ratio of 0.450, outside 0.5 to 2.",
        ),
        (
            {"controlled": Interval(mean=0.48, low=-0.09, high=1.1)},
            "At equal length and ending the gain is +0.480 [-0.090, +1.100]: it does not lie above "
            "0. Only the raw gain does: what the judge prefers may be how long completions are and "
            "that they end.",
        ),
        (
            {"good": good(count=99)},
            "Only 99 good completions of SFT and PPO could be matched by prompt; at least 100 are "
            "needed to compare their diversity.",
        ),
        (
            {"alarms": {"hacking": 3, "length": 0}},
            "Its training raised alarms: hacking in 3 iterations.",
        ),
    ],
)
def test_a_rejection_gives_the_failed_reasons_only(changes: dict[str, Any], text: str) -> None:
    assert said(decide(evidence(**changes), BOUNDS)) == [text]


def test_alarms_of_length_and_ending_are_cautions_and_others_reject() -> None:
    verdict = decide(evidence(alarms={"length": 4, "eos_rate": 2}), BOUNDS)
    assert verdict.accepted
    caution = (
        "Caution: its training raised alarms: length in 4 iterations, eos_rate in 2 iterations."
    )
    assert cautions(verdict, NAMES) == [caution]
    verdict = decide(evidence(alarms={"length": 4, "kl_high": 1}), BOUNDS)
    assert said(verdict) == [
        "Its training raised alarms: length in 4 iterations, kl_high in 1 iterations."
    ]


@pytest.mark.parametrize(
    ("tokens", "change"), [(6.5, "35% shorter"), (15.0, "50% longer"), (7.99, "20% shorter")]
)
def test_a_changed_length_is_a_caution_that_is_said_first(tokens: float, change: str) -> None:
    verdict = decide(evidence(length=Sides(baseline=10.0, model=tokens)), BOUNDS)
    assert verdict.accepted
    (caution,) = cautions(verdict, NAMES)
    assert caution.startswith(f"Caution: {change} than SFT's. Mean length is {tokens:.1f} tokens")
    assert said(verdict)[0] == caution
    assert headline(verdict).startswith(f"accepted, {change}, ")
    for usual in (8.0, 12.5):
        verdict = decide(evidence(length=Sides(baseline=10.0, model=usual)), BOUNDS)
        assert cautions(verdict, NAMES) == []
    rejected = decide(evidence(length=Sides(baseline=10.0, model=4.0)), BOUNDS)
    assert cautions(rejected, NAMES) == []


def test_it_is_said_when_nothing_could_be_measured() -> None:
    rates = Sides(baseline=0.0, model=0.0)
    verdict = decide(evidence(eos_rate=rates), BOUNDS)
    assert "no EOS rate that could have collapsed" in said(verdict)[-2]
    verdict = decide(gold_evidence(pair=NAN, count=0, ratio=NAN), BOUNDS)
    assert failed(verdict) == ["good_pair_difference", "matched_distinct_2_ratio"]
    assert said(verdict)[0].startswith("No prompt has two good samples of PPO")


def test_bounds_come_from_the_config() -> None:
    strict = Bounds(min_length_ratio=1.1, min_eos_ratio=1.1, min_distinct_2_ratio=1.1)
    names = failed(decide(evidence(), strict))
    assert names == ["length_ratio", "distinct_2_ratio", "eos_ratio"]
    strict = Bounds(
        max_length_ratio=0.9, min_good_pair_difference=0.9, min_matched_distinct_2_ratio=0.95
    )
    names = failed(decide(gold_evidence(), strict))
    assert names == ["length_ratio", "good_pair_difference", "matched_distinct_2_ratio"]
    strict = Bounds(min_matched_completions=401)
    assert failed(decide(gold_evidence(), strict)) == ["matched_distinct_2_ratio"]
    verdict = decide(evidence(kl_to_reference=1e6), Bounds(max_kl_to_reference=None))
    assert failed(verdict) == []
    assert "kl_to_reference" not in [check.name for check in verdict.checks]
    with pytest.raises(ValueError, match=r"min_length_ratio 2\.5 is not below max_length_ratio 2"):
        Bounds(min_length_ratio=2.5)


# --- over-optimisation --------------------------------------------------------------------------

RISE = Interval(mean=1.25, low=1.0, high=1.5)
FALL = Interval(mean=-0.5, low=-0.625, high=-0.375)
UNSURE = Interval(mean=0.0, low=-0.125, high=0.125)
NONE = Interval(mean=0.0, low=0.0, high=0.0)
UNKNOWN = Interval(mean=1.0, low=NAN, high=NAN)


@pytest.mark.parametrize(
    ("judge", "called"), [("gold", "gold judge"), ("judge", "held-out reward model"),
                          ("vader", "VADER sentiment judge"), ("mine", "judge mine")]
)  # fmt: skip
def test_over_optimisation_is_found_by_an_independent_judge(judge: str, called: str) -> None:
    verdict = decide(evidence(judge=judge, gain=FALL, score_gain=RISE), BOUNDS)
    assert failed(verdict) == ["judged_gain", "overoptimisation"]
    assert said(verdict)[1] == (
        "The score by the reward model rose by +1.250 [+1.000, +1.500], "
        f"the {called} says -0.500 [-0.625, -0.375]: the reward model was over-optimised."
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
    given = evidence(judge="gold", score_gain=score, gain=gain)
    verdict = decide(given, BOUNDS)
    (check,) = [c for c in verdict.checks if c.name == "overoptimisation"]
    assert given.overoptimised is verdict.overoptimised is found
    assert (check.passed, check.value) == (not found, float(found))
    assert finding in sentence(check, verdict, NAMES)


def test_a_second_reward_model_is_not_taken_for_a_gold_judge() -> None:
    held_out, gold = (
        said(decide(evidence(judge=judge, score_gain=RISE), BOUNDS))[3]
        for judge in ("judge", "gold")
    )
    assert "a relative may share the reward model's errors" in held_out
    assert gold.endswith("no sign of over-optimisation.")


def test_over_optimisation_is_unknown_when_only_the_maximised_reward_model_judges() -> None:
    given = evidence(judge="reward", gain=RISE, score_gain=RISE)
    assert given.overoptimised is None
    verdict = decide(given, BOUNDS)
    assert "overoptimisation" not in [check.name for check in verdict.checks]
    assert "cannot be ruled out" in said(verdict)[1]
    independent = decide(evidence(judge="judge", score_gain=RISE), BOUNDS)
    assert not any("cannot be ruled out" in reason for reason in said(independent))


# --- other judges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("judge", "independent", "said_of_it"),
    [
        ("gold", True, ""),
        ("people", True, ""),
        ("vader", True, ""),
        ("mine", True, ""),
        ("judge", False, "cannot see what both get wrong"),
        ("reward", False, "over-optimisation cannot be ruled out"),
    ],
)
def test_how_independent_a_judge_is_is_said(judge: str, independent: bool, said_of_it: str) -> None:
    verdict = decide(evidence(judge=judge), BOUNDS)
    assert verdict.independent is independent
    assert said(verdict)[1].endswith("lies above 0." if not said_of_it else f"{said_of_it}.")


def test_judges_that_disagree_are_told_first_and_a_sure_loss_rejects() -> None:
    gain, unsure, loss = (
        Interval(mean=mean, low=mean - 0.1, high=mean + 0.1) for mean in (0.3, 0.05, -0.3)
    )
    verdict = decide(evidence(judge="judge", others={"vader": gain, "people": unsure}), BOUNDS)
    assert verdict.accepted
    assert said(verdict)[0] == (
        "Caution: the judges disagree. The held-out reward model decides, but at equal length and "
        "ending the blind vote of people says +0.050 [-0.050, +0.150]: no sure gain."
    )
    agree = "The judges agree: at equal length and ending the VADER sentiment judge says +0.300"
    assert sum(one.startswith(agree) for one in said(verdict)) == 1
    verdict = decide(evidence(judge="judge", others={"vader": loss, "people": gain}), BOUNDS)
    assert failed(verdict) == ["other_judge/vader"]
    assert said(verdict) == [
        "The judges disagree: at equal length and ending the VADER sentiment judge says "
        "-0.300 [-0.400, -0.200], surely worse."
    ]
    untold = decide(evidence(judge="gold", others={"vader": Interval(mean=NAN)}), BOUNDS)
    assert untold.accepted
    assert "VADER sentiment judge says at equal length and ending cannot be told" in said(untold)[0]


@pytest.mark.parametrize(
    ("decides", "says", "wanted"),
    [
        (0.3, 0.3, "The judges agree: {told} +0.300 [+0.200, +0.400], above 0 as well."),
        (-0.3, -0.3, "The judges agree: {told} -0.300 [-0.400, -0.200], surely worse as well."),
        (0.0, 0.0, "The judges agree: {told} +0.000 [-0.100, +0.100], no sure gain as well."),
        (-0.3, 0.3, "The judges disagree: {told} +0.300 [+0.200, +0.400], above 0."),
        (NAN, 0.3, "Another judge: {told} +0.300 [+0.200, +0.400], above 0."),
        (NAN, -0.3, "Another judge: {told} -0.300 [-0.400, -0.200], surely worse."),
    ],
)
def test_judges_agree_where_both_find_the_same(decides: float, says: float, wanted: str) -> None:
    controlled, other = (
        Interval(mean=mean, low=mean - 0.1, high=mean + 0.1) for mean in (decides, says)
    )
    verdict = decide(evidence(controlled=controlled, others={"vader": other}), BOUNDS)
    (check,) = [check for check in verdict.checks if check.name == "other_judge/vader"]
    told = "at equal length and ending the VADER sentiment judge says"
    assert sentence(check, verdict, NAMES) == wanted.format(told=told)


def test_a_gain_only_at_equal_length_and_one_that_is_no_number_are_called_so() -> None:
    flat, gain = (Interval(mean=mean, low=mean - 0.1, high=mean + 0.1) for mean in (0.0, 0.3))
    for raw, wanted in (
        (flat, "is +0.300 [+0.200, +0.400]: above 0, which the raw one is not."),
        (Interval(mean=NAN), "there is no gain either: the raw one is no number."),
    ):
        verdict = decide(evidence(gain=raw, controlled=gain), BOUNDS)
        (check,) = [check for check in verdict.checks if check.name == "controlled_gain"]
        assert sentence(check, verdict, NAMES).endswith(wanted)


@pytest.mark.parametrize("judge", ["judge", "reward"])
def test_a_relative_does_not_decide_alone_where_others_were_asked(judge: str) -> None:
    gain, unsure = (Interval(mean=mean, low=mean - 0.1, high=mean + 0.1) for mean in (0.3, 0.05))
    seen = decide(evidence(judge=judge, others={"vader": gain, "people": unsure}), BOUNDS)
    assert seen.accepted
    assert any(
        one == "The gain is also seen by a judge that has nothing in common with the reward model "
        "(the VADER sentiment judge +0.300 [+0.200, +0.400], the blind vote of people +0.050 "
        "[-0.050, +0.150])."
        for one in said(seen)
    )
    for other in (unsure, Interval(mean=0.3), Interval(mean=NAN)):
        unseen = decide(evidence(judge=judge, others={"vader": other}), BOUNDS)
        assert failed(unseen) == ["independent_gain"]
        assert said(unseen)[0].startswith("No judge that has nothing in common with the reward")
    assert decide(evidence(judge=judge, others={"judge": unsure}), BOUNDS).accepted  # a relative
    assert decide(evidence(judge="gold", others={"vader": unsure}), BOUNDS).accepted


# --- numbers that are none ----------------------------------------------------------------------

BROKEN = st.sampled_from([NAN, INF, -INF, 0.0])


@given(
    st.sampled_from(["gain", "controlled", "length", "baseline_length", "distinct_2", "eos_rate"]),
    st.sampled_from([NAN, INF, -INF]),
)
def test_any_number_that_is_not_finite_rejects(name: str, value: float) -> None:
    change: Any = Sides(baseline=0.5, model=value)
    if name in ("gain", "controlled"):
        change = Interval(mean=value, low=value, high=value)
    elif name == "baseline_length":
        name, change = "length", Sides(baseline=value, model=10.0)
    verdict = decide(evidence(**{name: change}), BOUNDS)
    assert failed(verdict)
    assert said(verdict)


@given(*([BROKEN] * 10), st.integers(0, 2), st.booleans())
def test_nothing_raises(
    mean: float, low: float, high: float, length: float, other: float, eos: float, ended: float,
    distinct: float, twice: float, kl: float, prompts: int, gold: bool,
) -> None:  # fmt: skip
    matched = MatchedDistinct(completions=200, sft=distinct, ppo=twice)
    verdict = decide(
        Evidence(
            judge="gold",
            gain=Interval(mean=mean, low=low, high=high),
            controlled=Interval(mean=low, low=mean, high=high),
            prompts=prompts,
            finite={},
            length=Sides(baseline=length, model=other),
            eos_rate=Sides(baseline=eos, model=ended),
            distinct_2=Sides(baseline=distinct, model=twice),
            good=GoodDiversity(pair_difference=mean, matched=matched) if gold else None,
            score_gain=Interval(mean=mean, low=low, high=high),
            kl_to_reference=kl,
        ),
        BOUNDS,
    )
    assert failed(verdict)
    assert all(reason.endswith(".") for reason in said(verdict))


# --- chance -------------------------------------------------------------------------------------


def no_gains(prompts: int, draws: int, resamples: int) -> list[Interval]:
    """Gains of a model that is no better than its baseline, 4 samples of each prompt.

    Judgements are those of a bounded judge, 0 to 1, alike within a prompt and skewed: what the
    gold judge gives. Prompts differ much more than samples, so pairing matters.
    """
    generator = np.random.default_rng(7)
    found = []
    for draw in range(draws):
        easy = generator.beta(0.6, 0.4, (prompts, 1))
        baseline, model = (
            np.clip(easy + generator.normal(0, 0.3, (prompts, 4)), 0, 1) for _ in range(2)
        )
        found.append(paired_bootstrap(baseline, model, resamples, seed=draw))
    return found


def test_intervals_hold_their_95_percent_and_chance_seldom_passes() -> None:
    gains = no_gains(prompts=128, draws=200, resamples=500)
    covered = sum(gain.low <= 0 <= gain.high for gain in gains)
    accepted = sum(decide(evidence(gain=gain), BOUNDS).accepted for gain in gains)
    # Binomial error: what 200 draws would give one time in a thousand is refused.
    assert binomtest(covered, 200, 0.95).pvalue > 0.001, covered
    assert binomtest(accepted, 200, 0.025).pvalue > 0.001, accepted
    # A check of the mean instead of the interval's end would accept a hundred.
    assert accepted <= 13  # P(more than 13 of 200 at 2.5%) is below 0.001


def test_with_few_prompts_chance_passes_far_too_often() -> None:
    """Why a decision wants 30 prompts: the bootstrap's interval of four is far too narrow."""
    few = sum(gain.low > 0 for gain in no_gains(prompts=4, draws=250, resamples=200))
    enough = sum(gain.low > 0 for gain in no_gains(prompts=MIN_PROMPTS, draws=250, resamples=200))
    assert 0.08 * 250 <= few <= 0.22 * 250  # for 6 nominal
    assert binomtest(enough, 250, 0.025).pvalue > 0.001, enough


def test_a_real_gain_passes() -> None:
    generator = np.random.default_rng(8)
    passed = 0
    for draw in range(50):
        baseline = generator.normal(0.0, 1.0, (512, 4))
        model = generator.normal(0.2, 1.0, (512, 4))
        # sd of the gain is sqrt(2 / 2048) = 0.031: 0.2 lies 6.4 of them above zero
        gain = paired_bootstrap(baseline, model, 200, seed=draw)
        passed += decide(evidence(gain=gain), BOUNDS).accepted
    assert passed == 50
