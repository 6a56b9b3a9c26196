"""Decisions where length and ending change with the policy, through samples, checks and words."""

from typing import Any

import numpy as np
import pytest

from models.evaluation.measures import JudgedSamples
from models.evaluation.result import EvaluationResult
from models.evaluation.samples import Samples, Scores
from models.evaluation.wording import headline, reasons
from tests.models.evaluation.by_hand import decided

PROMPTS, SAMPLES, LIMIT = 256, 2, 40


def sampled(
    seed: int, *, mean: float, gain: float = 0.0, ends: float = 0.0, liking: float = 0.0
) -> JudgedSamples:
    """Completions whose score is 1.8 lower if they are cut, and `liking` higher for each token.

    Args:
        mean: Of the lengths' distribution, tokens.
        ends: Share of those that would be cut that end earlier instead.
    """
    generator = np.random.default_rng(seed)
    prompt = np.random.default_rng(99).normal(0, 1, (PROMPTS, 1))
    lengths = generator.geometric(1 / mean, (PROMPTS, SAMPLES))
    earlier = (lengths >= LIMIT) & (generator.random(lengths.shape) < ends)
    lengths = np.where(earlier, generator.integers(5, 25, lengths.shape), lengths)
    ended = lengths < LIMIT
    lengths = np.minimum(lengths, LIMIT)
    noise = generator.normal(0, 1, lengths.shape)
    score = prompt + gain - 1.8 * ~ended + liking * lengths + noise
    ids = [[generator.integers(3, 999, one).tolist() for one in row] for row in lengths]
    samples = Samples(
        texts=[[" ".join(map(str, one)) for one in row] for row in ids],
        prompt_ids=[[9] for _ in ids],
        token_ids=ids,
        finished=ended,
    )
    scores = {"reward": Scores(score=score + generator.normal(0, 0.1, score.shape)),
              "judge": Scores(score=score)}  # fmt: skip
    return JudgedSamples(samples=samples, scores=scores)


def decision(sft: JudgedSamples, ppo: JudgedSamples) -> tuple[EvaluationResult, Any]:
    result = decided(sft, ppo, "judge")
    assert result.decided is not None
    return result, result.decided[1]


def test_a_policy_that_only_ends_is_rejected_with_the_reason() -> None:
    result, verdict = decision(sampled(0, mean=35), sampled(1, mean=35, ends=0.9))
    assert result.comparisons["ppo"].gains["judge_score"].low > 0
    assert not verdict.accepted
    assert [check.name for check in verdict.checks if not check.passed] == ["controlled_gain"]
    (why,) = reasons(verdict, ("SFT", "PPO"))
    assert "Only the raw gain does" in why
    assert headline(verdict).startswith("rejected, 35% shorter, held-out score +0.58")


def test_a_policy_that_is_better_as_well_is_accepted() -> None:
    _, verdict = decision(sampled(0, mean=35), sampled(1, mean=35, gain=0.6, ends=0.5))
    assert verdict.accepted


@pytest.mark.parametrize("seed", range(3))
def test_a_policy_that_is_shorter_and_better_is_accepted_with_a_caution(seed: int) -> None:
    sft, ppo = (
        sampled(2 * seed, mean=22), sampled(2 * seed + 1, mean=13, gain=1.0, ends=0.5)
    )  # fmt: skip
    result, verdict = decision(sft, ppo)
    assert 0.5 < result.comparisons["ppo"].ratios["length_ratio"] < 0.8
    assert verdict.accepted
    first = reasons(verdict, ("SFT", "PPO"))[0]
    assert first.startswith("Caution: ")
    assert "shorter than SFT's" in first


def test_a_policy_that_is_only_longer_where_the_judge_likes_that_is_rejected() -> None:
    sft, ppo = sampled(0, mean=12, liking=0.1), sampled(1, mean=19, liking=0.1)
    result, verdict = decision(sft, ppo)
    assert result.comparisons["ppo"].gains["judge_score"].low > 0
    assert [check.name for check in verdict.checks if not check.passed] == ["controlled_gain"]
