"""Samples are rectangular, or refused with a message that says where they are not."""

from typing import Any

import numpy as np
import pytest

from models.errors import DataError
from models.evaluation.samples import GoldJudgement, PolicySamples


def samples(**changes: Any) -> PolicySamples:
    """Two prompts with two samples each, changed where told."""
    fields: dict[str, Any] = {
        "texts": [["a b", "c"], ["d", "e f g"]],
        "token_ids": [[[1, 2, 0], [3, 0]], [[4], [5, 6, 7]]],
        "finished": np.array([[True, True], [False, False]]),
        "score": np.array([[0.0, 1.0], [2.0, 3.0]]),
        "kl": np.zeros((2, 2)),
    }
    return PolicySamples(**fields | changes)


def test_policy_samples_measure_lengths_in_tokens() -> None:
    assert samples().lengths.tolist() == [[3, 2], [1, 3]]


def test_policy_samples_name_their_arrays_in_the_order_shown() -> None:
    gold = GoldJudgement(gold=np.ones((2, 2)), good=np.ones((2, 2), bool), polite=np.zeros((2, 2)))
    assert list(samples().arrays()) == ["score", "kl_to_reference", "length", "eos_rate"]
    names = ["score", "gold", "polite", "good", "kl_to_reference", "length", "eos_rate"]
    assert list(samples(gold=gold).arrays()) == names
    judged = samples(judge_score=np.ones((2, 2)))
    names = ["score", "judge_score", "kl_to_reference", "length", "eos_rate"]
    assert list(judged.arrays()) == names


def test_policy_samples_pick_the_good_ones_in_order() -> None:
    good = np.array([[True, True], [False, True]])
    judged = samples(gold=GoldJudgement(gold=np.ones((2, 2)), good=good))
    assert judged.good_texts() == [["a b", "c"], ["e f g"]]
    assert judged.good_token_ids() == [[[1, 2, 0], [3, 0]], [[5, 6, 7]]]
    assert samples().good_texts() == [[], []]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": [["a"], ["b", "c"]]}, r"texts has shape \(2, 1, 2\), wanted \(2, 2\)"),
        ({"token_ids": [[[1], [2]]]}, r"token_ids has shape \(1, 2\), wanted \(2, 2\)"),
        ({"score": np.zeros(2)}, r"score has shape \(2,\), wanted \(2, 2\)"),
        (
            {"judge_score": np.zeros((1, 2))},
            r"judge_score has shape \(1, 2\), wanted \(2, 2\)",
        ),
        ({"kl": np.zeros((2, 3))}, r"kl_to_reference has shape \(2, 3\), wanted \(2, 2\)"),
        ({"finished": np.ones((0, 2), bool)}, r"finished has shape \(0, 2\)"),
        ({"finished": np.ones((2, 2))}, "wanted bool"),
        (
            {"gold": GoldJudgement(gold=np.ones((2, 1)), good=np.ones((2, 2), bool))},
            r"gold has shape \(2, 1\), wanted \(2, 2\)",
        ),
        (
            {"gold": GoldJudgement(gold=np.ones((2, 2)), good=np.full((2, 2), np.nan))},
            "wanted bool",
        ),
    ],
)
def test_policy_samples_refuse_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples(**changes)
