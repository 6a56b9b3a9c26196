"""The judge's preferences: a stable split by prompt, with no prompt on both sides."""

import json
from typing import Any

import pytest

from models.errors import DataError
from models.preference_shares import PreferenceShare, Side


def rows(prompts: int, pairs: int = 3) -> list[dict[str, Any]]:
    return [
        {"prompt": f"prompt {prompt}", "chosen": f"good {pair}", "rejected": "bad", "margin": 0.5}
        for pair in range(pairs)
        for prompt in range(prompts)
    ]


def prompts_of(side: list[dict[str, Any]]) -> set[str]:
    return {json.dumps(row["prompt"]) for row in side}


def side(
    given: list[dict[str, Any]], side: Side, share: float, seed: int = 0
) -> list[dict[str, Any]]:
    own = PreferenceShare(side=side, judge_share=share, seed=seed)
    return [row for row in given if own.takes(row)]


def test_split_gives_every_row_to_one_side_and_no_prompt_to_both() -> None:
    given = rows(200)
    reward, judge = side(given, "reward", 0.5), side(given, "judge", 0.5)
    assert not prompts_of(reward) & prompts_of(judge)
    assert sorted(map(json.dumps, reward + judge)) == sorted(map(json.dumps, given))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_split_keeps_about_the_share_of_prompts(share: float) -> None:
    judge = side(rows(2000, 1), "judge", share, seed=3)
    # Binomial: 4 standard deviations of 2000 draws are at most 0.045.
    assert len(judge) / 2000 == pytest.approx(share, abs=0.045)


def test_split_of_a_prompt_depends_on_text_and_seed_alone() -> None:
    given = rows(300)
    part = given[::-1][:450]
    for name in ("reward", "judge"):
        assert prompts_of(side(part, name, 0.5)) <= prompts_of(side(given, name, 0.5))
    assert prompts_of(side(given, "judge", 0.5, seed=1)) != prompts_of(side(given, "judge", 0.5))


def test_a_larger_share_only_adds_to_the_judge() -> None:
    small, large = (side(rows(200), "judge", share) for share in (0.3, 0.6))
    assert prompts_of(small) < prompts_of(large)


def test_split_knows_messages_as_prompts() -> None:
    given = [
        {"prompt": [{"role": "user", "content": f"prompt {i % 50}"}], "chosen": i, "rejected": ""}
        for i in range(200)
    ]
    assert not prompts_of(side(given, "reward", 0.5)) & prompts_of(side(given, "judge", 0.5))


def test_without_a_share_all_pairs_are_the_reward_models() -> None:
    assert side(rows(9), "reward", 0.0) == rows(9)
    assert side(rows(9), "judge", 0.0) == []
    PreferenceShare().check(0, 0)


def test_split_refuses_a_side_with_too_few_pairs() -> None:
    half = PreferenceShare(judge_share=0.5)
    half.check(16, 16)
    with pytest.raises(DataError, match=r"judge_share 0\.5 leaves the reward model 8 of the 28"):
        half.check(8, 20)
    with pytest.raises(DataError, match="leaves the judge 8 of the 28"):
        half.check(20, 8)
    with pytest.raises(DataError, match="leaves the reward model 8 of the 28"):
        PreferenceShare(side="judge", judge_share=0.5).check(20, 8)
