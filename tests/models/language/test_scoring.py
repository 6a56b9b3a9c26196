"""Scores are read at each sequence's last token, whatever batch it is in."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import ModelError
from models.language.folders import new_reward_model
from models.language.scoring import (
    SCORE_MOMENTS,
    SequenceScorer,
    read_score_moments,
    score_sequences,
)


@pytest.fixture(scope="module")
def reward_model(base_folder: Path) -> Any:
    return new_reward_model(base_folder, seed=0)


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


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "[" * 100_000,
        '{"mean": 0.0, "std": 1.0, "raw_std": 1.0}',
        '{"mean": NaN, "std": 1.0, "raw_std": 1.0, "samples": 8}',
        '{"mean": 0.0, "std": 0.0, "raw_std": 0.0, "samples": 8}',
        '{"mean": "x", "std": 1.0, "raw_std": 1.0, "samples": 8}',
        '{"mean": 1' + "0" * 400 + ', "std": 1.0, "raw_std": 1.0, "samples": 8}',
    ],
)
def test_moments_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / SCORE_MOMENTS).write_text(content)
    with pytest.raises(ModelError, match=r"score_moments\.json cannot be read"):
        read_score_moments(tmp_path)
