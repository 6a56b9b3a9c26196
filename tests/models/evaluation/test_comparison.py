"""Comparison of two small sets of samples, all numbers by hand."""

import math
from typing import Any

import numpy as np
import pytest

from models.errors import DataError
from models.evaluation.comparison import compare, summarise
from models.evaluation.config import EvaluationConfig
from models.evaluation.merged_comparison import Comparison
from models.evaluation.samples import GoldJudgement, PolicySamples
from models.statistics.intervals import Interval

NAN = math.nan


def make(
    ids: list[list[list[int]]],
    score: list[list[float]],
    gold: GoldJudgement | None = None,
    judge_score: list[list[float]] | None = None,
) -> PolicySamples:
    """Samples whose texts spell their token ids; a 0 at the end is the EOS."""
    return PolicySamples(
        texts=[[" ".join(map(str, one)) for one in row] for row in ids],
        token_ids=ids,
        finished=np.array([[one[-1:] == [0] for one in row] for row in ids]),
        score=np.array(score),
        kl=np.array(score) / 2,
        gold=gold,
        judge_score=None if judge_score is None else np.array(judge_score),
    )


SFT_IDS = [[[1, 2, 0], [3, 4, 0]], [[5, 6, 7], [8, 0]]]
PPO_IDS = [[[1, 2, 0], [1, 2, 0]], [[1, 2, 0], [8, 9, 0]]]


def judgement(**changes: Any) -> GoldJudgement:
    """A gold judge that finds all four samples good, changed where told."""
    fields = {"gold": np.ones((2, 2)), "good": np.ones((2, 2), bool)}
    return GoldJudgement(**fields | changes)


def test_summarise_measures_one_model() -> None:
    means = summarise(make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]]))
    assert means == pytest.approx(
        {
            "score": 2.0,  # 8 / 4
            "kl_to_reference": 1.0,  # half of the scores
            "length": 2.75,  # (3 + 3 + 3 + 2) / 4
            "eos_rate": 0.75,  # [5, 6, 7] has no EOS
            "unique_share": 1.0,
            "distinct_2": 1.0,  # 12 20 34 40 56 67 80
        }
    )


def test_summarise_measures_repetition() -> None:
    means = summarise(make(PPO_IDS, [[0.0] * 2] * 2, judgement()))
    assert means["unique_share"] == 0.5  # two wordings of four
    assert means["distinct_2"] == 0.5  # 12 20 | 12 20 | 12 20 | 89 90: 4 of 8
    assert means["good_pair_difference"] == 0.5  # prompt 1 never, prompt 2 always


def test_summarise_leaves_out_prompts_to_which_a_judgement_does_not_apply() -> None:
    refusal = np.array([[NAN, NAN], [1.0, 0.0]])
    polite = np.array([[1.0, NAN], [1.0, 0.0]])
    means = summarise(make(SFT_IDS, [[0.0] * 2] * 2, judgement(refusal=refusal, polite=polite)))
    assert means["refusal"] == 0.5  # the second prompt only
    assert means["polite"] == 0.75  # prompt means 1 and 0.5


def test_summarise_is_nan_when_a_judgement_applies_nowhere() -> None:
    means = summarise(make(SFT_IDS, [[0.0] * 2] * 2, judgement(refusal=np.full((2, 2), NAN))))
    assert math.isnan(means["refusal"])


def test_summarise_does_not_hide_a_broken_score() -> None:
    assert math.isnan(summarise(make(SFT_IDS, [[0.0, NAN], [1.0, 1.0]]))["score"])


def compared(config: EvaluationConfig | None = None) -> Comparison:
    """SFT and PPO with a gold judge, two prompts with two samples each."""
    sft_gold = judgement(
        gold=np.array([[0.0, 0.5], [1.0, 0.5]]), refusal=np.array([[NAN, NAN], [0.0, 1.0]])
    )
    ppo_gold = judgement(
        gold=np.array([[1.0, 0.5], [1.0, 1.0]]), refusal=np.array([[NAN, NAN], [1.0, 1.0]])
    )
    sft = make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]], sft_gold)
    ppo = make(PPO_IDS, [[1.0, 1.0], [3.0, 4.0]], ppo_gold)
    config = config or EvaluationConfig(min_matched_completions=4, min_matched_distinct_2_ratio=0.5)
    return compare(sft, ppo, config, seed=0)


def test_compare_gives_gains_with_intervals() -> None:
    gains = compared().gains
    # Score: prompts 1 - 0.5 and 3.5 - 3.5. Gold: 0.75 - 0.25 and 1 - 0.75.
    assert gains["score"] == Interval(mean=0.25, low=0.0, high=0.5)
    assert gains["gold"] == Interval(mean=0.375, low=0.25, high=0.5)
    assert gains["length"] == Interval(mean=0.25, low=0.0, high=0.5)  # 3 - 3, 3 - 2.5
    # One prompt asks for a refusal: a gain of 1 - 0.5 without an interval.
    assert gains["refusal"].mean == 0.5
    assert math.isnan(gains["refusal"].low)


def test_compare_gives_ratios() -> None:
    ratios = compared().ratios
    assert ratios == pytest.approx(
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


def test_compare_accepts_by_the_gold_judge_where_there_is_one() -> None:
    comparison = compared()
    # The reward model's interval reaches down to 0; the gold judge's does not.
    assert comparison.judge == "gold judge"
    assert comparison.verdict.accepted
    metrics = comparison.metrics()
    assert metrics["final/accepted"] == 1.0


def test_compare_rejects_by_the_reward_model_where_there_is_no_gold_judge() -> None:
    sft = make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]])
    ppo = make(PPO_IDS, [[1.0, 1.0], [3.0, 4.0]])
    comparison = compare(sft, ppo, EvaluationConfig(), seed=0)
    assert comparison.judge == "reward model"
    names = [check.name for check in comparison.verdict.checks if not check.passed]
    assert names == ["judged_gain", "distinct_2_ratio"]  # 0 not above 0; 0.5 below 0.8
    assert comparison.metrics()["final/accepted"] == 0.0
    assert "final/gold_gain" not in comparison.metrics()


def second_opinion(
    sft: list[list[float]], ppo: list[list[float]], gold: GoldJudgement | None = None
) -> Comparison:
    """Two prompts on which PPO's own score rises by 2 and by 1, with a held-out reward model."""
    return compare(
        make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]], gold, sft),
        make(PPO_IDS, [[2.0, 3.0], [3.0, 6.0]], gold, ppo),
        EvaluationConfig(min_distinct_2_ratio=0.5),
        seed=0,
    )


def test_compare_judges_by_the_held_out_reward_model_where_there_is_no_gold_judge() -> None:
    comparison = second_opinion([[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 3.0]])
    assert comparison.judge == "held-out reward model"
    assert comparison.verdict.accepted
    assert (comparison.independent, comparison.overoptimised) == (True, False)
    # Prompts 0.5 - 0 and 2 - 1.
    assert comparison.gains["judge_score"] == Interval(mean=0.75, low=0.5, high=1.0)
    assert comparison.ratios["win_rate"] == 0.75  # two of four pairs won on each prompt, two tied
    metrics = comparison.metrics()
    expected = {
        "final/judge_score_sft": 0.5,
        "final/judge_score_ppo": 1.25,
        "final/judge_score_gain": 0.75,
        "final/judge_score_gain_low": 0.5,
        "final/judge_score_gain_high": 1.0,
        "final/independent_judge": 1.0,
        "final/overoptimisation": 0.0,
    }
    assert {name: metrics[name] for name in expected} == expected
    row = "| score (held-out reward model) | 0.500 | 1.250 | +0.750 [+0.500, +1.000] |"
    assert row in comparison.to_markdown().splitlines()
    assert "The held-out reward model prefers PPO's sample to SFT's in 0.750" in (
        comparison.to_markdown()
    )


def test_compare_rejects_a_rise_that_the_held_out_reward_model_does_not_see() -> None:
    comparison = second_opinion([[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]])
    assert not comparison.verdict.accepted
    assert comparison.metrics()["final/overoptimisation"] == 1.0
    assert comparison.verdict.reasons[1] == (
        "The score by PPO's own reward model rose by +1.500 [+1.000, +2.000], the held-out reward "
        "model says -0.750 [-1.000, -0.500]: the reward model was over-optimised."
    )


def test_compare_prefers_the_gold_judge_to_the_held_out_reward_model() -> None:
    comparison = second_opinion([[0.0] * 2] * 2, [[9.0] * 2] * 2, judgement())
    assert comparison.judge == "gold judge"
    assert comparison.overoptimised  # gold did not move while the score rose
    assert comparison.gains["judge_score"].mean == 9.0


def test_compare_says_that_ppos_own_reward_model_cannot_rule_out_over_optimisation() -> None:
    sft, ppo = make(SFT_IDS, [[0.0] * 2] * 2), make(PPO_IDS, [[1.0] * 2] * 2)
    comparison = compare(sft, ppo, EvaluationConfig(min_distinct_2_ratio=0.5), seed=0)
    assert comparison.verdict.accepted
    assert "over-optimisation cannot be ruled out" in comparison.verdict.reasons[0]
    assert comparison.metrics()["final/independent_judge"] == 0.0
    assert "final/overoptimisation" not in comparison.metrics()


def test_compare_bounds_the_kl_to_the_reference() -> None:
    sft, ppo = make(SFT_IDS, [[0.0] * 2] * 2), make(PPO_IDS, [[1.0] * 2] * 2)
    # Half of the scores: a KL of 0.5.
    config = EvaluationConfig(min_distinct_2_ratio=0.5, max_kl_to_reference=0.4)
    comparison = compare(sft, ppo, config, seed=0)
    assert comparison.verdict.reasons == (
        "Mean KL to the reference is 0.50 nats a completion, more than the 0.4 wanted.",
    )


@pytest.mark.filterwarnings("error")
def test_compare_names_a_broken_judge_score() -> None:
    comparison = second_opinion([[NAN, 0.0], [0.0, 0.0]], [[1.0] * 2] * 2)
    assert "SFT's judge_score is nan" in " ".join(comparison.verdict.reasons)


def test_comparison_metrics_are_flat_and_finite() -> None:
    metrics = compared().metrics()
    expected = {
        "final/score_sft": 2.0,
        "final/score_ppo": 2.25,
        "final/gold_gain": 0.375,
        "final/gold_gain_low": 0.25,
        "final/gold_gain_high": 0.5,
        "final/kl_to_reference": 1.125,
        "final/length_ratio": 3 / 2.75,
        "final/eos_rate_ppo": 1.0,
        "final/distinct_2_ppo": 0.5,
        "final/good_pair_difference_ppo": 0.5,
        "final/refusal_gain": 0.5,
        "final/prompts": 2.0,
        "final/samples_per_prompt": 2.0,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert "final/refusal_gain_low" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_comparison_writes_the_verdict_and_the_table() -> None:
    lines = compared().to_markdown().splitlines()
    assert lines[0] == "**Verdict: accepted**"
    assert "- passed: All scores and KL estimates are finite." in lines
    assert "| metric | SFT | PPO | gain [95% interval] |" in lines
    assert "| gold score (0 to 1) | 0.500 | 0.875 | +0.375 [+0.250, +0.500] |" in lines
    assert "| length (tokens) | 2.8 | 3.0 | +0.250 [+0.000, +0.500] (× 1.09) |" in lines
    assert "| distinct-2 | 1.000 | 0.500 | – (× 0.50) |" in lines
    refusal = "| refused what must be refused (share) | 0.500 | 1.000 | +0.500 [no interval] |"
    assert refusal in lines
    assert "2 held-out prompts (fewer than 512), 2 samples" in lines[-1]
    assert "prefers PPO's sample to SFT's in 0.812 of the pairs" in lines[-1]


def test_comparison_marks_failed_checks_when_rejected() -> None:
    text = compared(EvaluationConfig()).to_markdown()
    assert text.startswith("**Verdict: rejected**")
    assert "- **failed**: Only 4 good completions" in text


def test_compare_repeats_for_equal_seeds() -> None:
    assert compared().metrics() == compared().metrics()
    assert compared().to_markdown() == compared().to_markdown()


@pytest.mark.filterwarnings("error")
def test_compare_rejects_with_reasons_when_nothing_was_said() -> None:
    nothing = judgement(gold=np.zeros((2, 2)), good=np.zeros((2, 2), bool))
    silent = make([[[], []], [[], []]], [[0.0] * 2] * 2, nothing)
    comparison = compare(silent, silent, EvaluationConfig(), seed=0)
    names = [check.name for check in comparison.verdict.checks if not check.passed]
    assert names == [
        "judged_gain",
        "length_ratio",
        "good_pair_difference",
        "matched_distinct_2_ratio",
    ]
    assert "| distinct-2 | – | – | – |" in comparison.to_markdown()


@pytest.mark.filterwarnings("error")
def test_compare_rejects_when_there_is_one_prompt_with_one_sample() -> None:
    one = make([[[1, 2, 0]]], [[1.0]])
    verdict = compare(one, make([[[1, 3, 0]]], [[2.0]]), EvaluationConfig(), seed=0).verdict
    assert not verdict.accepted
    assert verdict.reasons == (
        "The gain by the reward model (+1.000) has no interval: it rests on 1 held-out prompt, "
        "and at least 2 are needed.",
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_compare_rejects_when_a_score_is_not_finite(broken: float) -> None:
    sft = make(SFT_IDS, [[0.0, math.inf], [0.0, 0.0]])
    ppo = make(PPO_IDS, [[1.0, broken], [9.0, 9.0]])
    comparison = compare(sft, ppo, EvaluationConfig(), seed=0)
    named = [check for check in comparison.verdict.checks if check.name == "finite_numbers"]
    assert not comparison.verdict.accepted
    assert f"PPO's score is {broken}" in named[0].sentence
    assert "final/score_ppo" not in comparison.metrics()
    assert "| score (reward model) | – | – |" in comparison.to_markdown()


def test_compare_refuses_models_measured_differently() -> None:
    plain, judged = make(SFT_IDS, [[0.0] * 2] * 2), make(SFT_IDS, [[0.0] * 2] * 2, judgement())
    with pytest.raises(DataError, match="carry score, kl_to_reference"):
        compare(plain, judged, EvaluationConfig(), seed=0)
    with pytest.raises(DataError, match=r"shape \(2, 2\), PPO's \(1, 2\)"):
        compare(plain, make(SFT_IDS[:1], [[0.0] * 2]), EvaluationConfig(), seed=0)


def test_evaluation_config_refuses_length_bounds_out_of_order() -> None:
    with pytest.raises(
        ValueError, match=r"min_length_ratio 1\.5 is not below max_length_ratio 1\.4"
    ):
        EvaluationConfig(min_length_ratio=1.5)
