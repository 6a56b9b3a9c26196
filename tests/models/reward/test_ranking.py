"""Pairs as tokens; accuracy and its baseline by hand."""

from typing import Any

import pytest
import torch

from models.language.examples import Pairs, encode_pairs
from models.language.tokenizer import encode_completion, encode_prompt
from models.reward.ranking import longer_wins_accuracy, pair_accuracy


def _pairs(chosen: list[list[int]], rejected: list[list[int]]) -> Pairs:
    return Pairs(
        prompts=[[5]] * len(chosen),
        chosen=chosen,
        rejected=rejected,
        rows=list(range(len(chosen))),
        equal=0,
        too_long=0,
    )


def test_pair_accuracy_counts_strictly_higher_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = _pairs([[6], [7], [8], [9]], [[16], [17], [18], [19]])
    scores = {6: 1.0, 16: 0.0, 7: 0.5, 17: 0.5, 8: 0.0, 18: 1.0, 9: 2.0, 19: 1.0}
    monkeypatch.setattr(
        "models.reward.ranking.score_sequences",
        lambda model, sequences: torch.tensor([scores[ids[-1]] for ids in sequences]),
    )
    found = pair_accuracy(None, pairs)
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
