"""Pairs as tokens; accuracy and its baseline by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import DataError
from models.language.examples import Pairs, encode_pairs
from models.language.tokenizer import encode_completion, encode_prompt
from models.reward.ranking import (
    accuracy_by_margin,
    decided,
    longer_wins_accuracy,
    pair_accuracy,
)


def _pairs(
    chosen: list[list[int]], rejected: list[list[int]], margins: list[float] | None = None
) -> Pairs:
    return Pairs(
        prompts=[[5]] * len(chosen),
        chosen=chosen,
        rejected=rejected,
        margins=margins or [0.0] * len(chosen),
        ties=[False] * len(chosen),
        prompt_numbers=list(range(len(chosen))),
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
        lambda model, sequences, _: torch.tensor([scores[ids[-1]] for ids in sequences]),
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


RANKED = [
    {"prompt": "the cat sat", "chosen": " on the mat", "rejected": " home", "margin": 0.5},
    {"prompt": "a dog", "chosen": " ran", "rejected": " slept all day", "margin": 1.0},
    {"prompt": "the cat sat", "chosen": " home", "rejected": " it", "margin": 0.25, "tie": True},
]


def test_pairs_know_their_prompt_margin_and_whether_they_are_ties(tokenizer: Any) -> None:
    pairs = encode_pairs(tokenizer, RANKED, 64)
    assert pairs.prompt_numbers == [0, 1, 0]
    assert pairs.margins == [0.5, 1.0, 0.0]  # a tie has none
    assert pairs.ties == [False, False, True]


@pytest.mark.parametrize("one_cut", [False, True])
def test_one_cut_of_a_prompt_leaves_room_for_its_longest_completion(
    tokenizer: Any, one_cut: bool
) -> None:
    words = ["the cat sat on the mat and slept", " on the mat all day", " home", " it"]
    text, longest, second, third = words
    rows = [
        {"prompt": text, "chosen": longest, "rejected": second},
        {"prompt": text, "chosen": second, "rejected": third},
        {"prompt": text, "chosen": second, "rejected": " mat" * 99},
    ]
    lengths = [len(encode_completion(tokenizer, word)) for word in words[1:]]
    room = lengths[0] + 2
    pairs = encode_pairs(tokenizer, rows, room, one_cut=one_cut)
    assert pairs.too_long == 1  # and it takes no room from the others
    whole = encode_prompt(tokenizer, text, 64)
    assert pairs.prompts[0] == whole[-2:]
    assert pairs.prompts[1] == whole[-(2 if one_cut else room - max(lengths[1:])) :]


def test_held_out_ties_are_left_out(tmp_path: Path) -> None:
    assert decided(RANKED, tmp_path) == RANKED[:2]
    assert decided([], tmp_path) == []
    with pytest.raises(DataError, match="has 2 pairs, all of them ties"):
        decided([RANKED[2]] * 2, tmp_path)


def test_accuracy_is_measured_at_each_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {6: 1.0, 16: 0.0, 7: 0.5, 17: 0.5, 8: 0.0, 18: 1.0, 9: 2.0, 19: 1.0}
    monkeypatch.setattr(
        "models.reward.ranking.score_sequences",
        lambda model, sequences, _: torch.tensor([scores[ids[-1]] for ids in sequences]),
    )
    sides = [[6], [7], [8], [9]], [[16], [17], [18], [19]]
    graded = _pairs(*sides, margins=[1.0, 1 / 3, 1 / 3, 1 / 3])
    assert accuracy_by_margin(None, graded) == {
        "reward/accuracy_margin_1": 1.0,
        "reward/accuracy_margin_0.333333": pytest.approx(1 / 3),
    }
    assert accuracy_by_margin(None, _pairs(*sides)) == {}


def test_margins_that_are_no_levels_are_not_measured_one_by_one() -> None:
    many = [[token] for token in range(9)]
    pairs = _pairs(many, [[token + 50] for token in range(9)], [at / 9 for at in range(9)])
    assert accuracy_by_margin(None, pairs) == {}
