"""The judge's preferences: a stable split by prompt, with no prompt on both sides."""

import json
from typing import Any

import pytest

from models.errors import DataError
from models.reward.split import split_preferences


def rows(prompts: int, pairs: int = 3) -> list[dict[str, Any]]:
    return [
        {"prompt": f"prompt {prompt}", "chosen": f"good {pair}", "rejected": "bad", "margin": 0.5}
        for pair in range(pairs)
        for prompt in range(prompts)
    ]


def prompts_of(side: list[dict[str, Any]]) -> set[str]:
    return {json.dumps(row["prompt"]) for row in side}


def test_split_gives_every_row_whole_to_one_side_and_no_prompt_to_both() -> None:
    given = rows(200)
    shares = split_preferences(given, judge_share=0.5, seed=0)
    assert not prompts_of(shares.reward) & prompts_of(shares.judge)
    everything = sorted(map(json.dumps, shares.reward + shares.judge))
    assert everything == sorted(map(json.dumps, given))
    assert shares.judge == [row for row in given if row in shares.judge]  # in the rows' order


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_split_keeps_about_the_share_of_prompts(share: float) -> None:
    shares = split_preferences(rows(2000, 1), judge_share=share, seed=3)
    # Binomial: 4 standard deviations of 2000 draws are at most 0.045.
    assert len(shares.judge) / 2000 == pytest.approx(share, abs=0.045)


def test_split_of_a_prompt_depends_on_text_and_seed_alone() -> None:
    given = rows(300)
    whole = split_preferences(given, judge_share=0.5, seed=0)
    part = split_preferences(given[::-1][:450], judge_share=0.5, seed=0)
    assert prompts_of(part.judge) <= prompts_of(whole.judge)
    assert prompts_of(part.reward) <= prompts_of(whole.reward)
    other = split_preferences(given, judge_share=0.5, seed=1)
    assert prompts_of(other.judge) != prompts_of(whole.judge)


def test_a_larger_share_only_adds_to_the_judge() -> None:
    small, large = (split_preferences(rows(200), judge_share=s, seed=0) for s in (0.3, 0.6))
    assert prompts_of(small.judge) < prompts_of(large.judge)


def test_split_knows_messages_as_prompts() -> None:
    given = [
        {"prompt": [{"role": "user", "content": f"prompt {i % 50}"}], "chosen": i, "rejected": ""}
        for i in range(200)
    ]
    shares = split_preferences(given, judge_share=0.5, seed=0)
    assert not prompts_of(shares.reward) & prompts_of(shares.judge)


def test_split_refuses_a_side_with_too_few_pairs() -> None:
    with pytest.raises(DataError, match=r"judge_share 0\.5 leaves the reward model 8 of the 20"):
        split_preferences(rows(20, 1), judge_share=0.5, seed=2)
    with pytest.raises(DataError, match=r"leaves the judge 0 of the 90 .* have 1 different"):
        split_preferences(rows(1, 90), judge_share=1e-9, seed=0)
    with pytest.raises(DataError, match="leaves the reward model 0 of the 90"):
        split_preferences(rows(1, 90), judge_share=1 - 1e-9, seed=0)
