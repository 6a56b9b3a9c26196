"""Scores are read at each sequence's last token; accuracy and its baseline by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.language.folders import new_reward_model
from models.language.tokenizer import encode_completion, encode_prompt
from models.reward.ranking import (
    Pairs,
    SequenceScorer,
    encode_pairs,
    longer_wins_accuracy,
    pair_accuracy,
    score_sequences,
)


@pytest.fixture(scope="module")
def reward_model(base_folder: Path) -> Any:
    return new_reward_model(base_folder, seed=0)


def _pairs(chosen: list[list[int]], rejected: list[list[int]]) -> Pairs:
    return Pairs(
        prompts=[[5]] * len(chosen),
        chosen=chosen,
        rejected=rejected,
        rows=list(range(len(chosen))),
        equal=0,
        too_long=0,
    )


def test_scores_are_those_of_each_sequence_alone(reward_model: Any) -> None:
    # Ragged, unsorted, one with a pad token inside and at its end: only lengths count.
    sequences = [[5, 6, 7, 8, 9, 1], [10], [11, 0, 12, 0], [13, 14, 1]]
    alone = [
        reward_model.score(reward_model.base_model(torch.tensor([ids])).last_hidden_state[0, -1])
        for ids in sequences
    ]
    for batch_tokens in (1, 8, 1000):
        scores = score_sequences(reward_model, sequences, batch_tokens)
        # Float32 through two layers in batches of other shapes.
        torch.testing.assert_close(scores, torch.cat(alone).detach(), rtol=0, atol=1e-6)


def test_scores_equal_the_forward_that_trains(reward_model: Any) -> None:
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]])
    logits = reward_model(input_ids=ids, attention_mask=(ids != 0).long()).logits
    scores = score_sequences(reward_model, [[5, 6, 7, 1], [8, 9, 1]])
    torch.testing.assert_close(scores, logits.squeeze(1).detach(), rtol=0, atol=1e-6)


def test_scoring_nothing_gives_nothing(reward_model: Any) -> None:
    assert score_sequences(reward_model, []).shape == (0,)


def test_scorer_gives_equal_sequences_equal_scores_in_any_company(reward_model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    others = [torch.randint(2, 40, (n,), generator=generator).tolist() for n in range(1, 40)]
    scorer = SequenceScorer(reward_model, batch_tokens=64)
    alone = scorer.score([[5, 6, 7, 1]])
    found = scorer.score([*others, [5, 6, 7, 1], others[0]])
    assert found[-2] == alone[0]  # to the last bit
    assert found[-1] == found[0]
    assert found[:-2] == pytest.approx(score_sequences(reward_model, others).numpy(), abs=1e-6)


def test_pair_accuracy_counts_strictly_higher_scores(
    reward_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = _pairs([[6], [7], [8], [9]], [[16], [17], [18], [19]])
    scores = {6: 1.0, 16: 0.0, 7: 0.5, 17: 0.5, 8: 0.0, 18: 1.0, 9: 2.0, 19: 1.0}
    monkeypatch.setattr(
        "models.reward.ranking.score_sequences",
        lambda model, sequences: torch.tensor([scores[ids[-1]] for ids in sequences]),
    )
    found = pair_accuracy(reward_model, pairs)
    assert found.mean == 0.5  # the first and the last; the tie is wrong
    assert found.low < 0.5 < found.high


def test_longer_wins_gives_half_a_point_for_a_tie() -> None:
    pairs = _pairs([[1, 2], [1], [1], [1, 2]], [[1], [1, 2], [1], [2]])
    assert longer_wins_accuracy(pairs) == (1 + 0 + 0.5 + 1) / 4


@pytest.mark.parametrize("sides", [("chosen", "rejected"), ("rejected", "chosen")])
def test_pairs_share_a_prompt_cut_to_the_longer_side(
    tokenizer: Any, sides: tuple[str, str]
) -> None:
    first, second = " on the mat and slept", " home"
    row = {"prompt": "the cat sat", **dict(zip(sides, (first, second), strict=True))}
    lengths = [len(encode_completion(tokenizer, text)) for text in (first, second)]
    assert lengths[0] > lengths[1]
    prompt = encode_prompt(tokenizer, "the cat sat", 64)
    pairs = encode_pairs(tokenizer, [row], lengths[0] + 1)
    assert pairs.prompts == [prompt[-1:]]
    assert pairs.chosen == [encode_completion(tokenizer, row["chosen"])]
    assert pairs.rejected == [encode_completion(tokenizer, row["rejected"])]
    assert max(map(len, pairs.chosen_sequences + pairs.rejected_sequences)) == lengths[0] + 1


def test_equal_and_overlong_pairs_are_dropped_and_counted(tokenizer: Any) -> None:
    rows = [
        {"prompt": "the", "chosen": " cat", "rejected": " cat"},
        {"prompt": "the", "chosen": " cat", "rejected": " mat" * 99},
        {"prompt": "the", "chosen": " cat", "rejected": " dog"},
    ]
    pairs = encode_pairs(tokenizer, rows, 64)
    assert (pairs.rows, pairs.equal, pairs.too_long, len(pairs)) == ([2], 1, 1, 1)
