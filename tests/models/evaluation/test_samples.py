"""Samples are rectangular, or refused with a message that says where they are not."""

from typing import Any

import numpy as np
import pytest

from models.errors import DataError
from models.evaluation.measures import JudgedSamples
from models.evaluation.samples import Samples, Scores, pick


def samples(**changes: Any) -> Samples:
    """Two prompts with two samples each, changed where told."""
    fields: dict[str, Any] = {
        "texts": [["a b", "c"], ["d", "e f g"]],
        "prompt_ids": [[1], [2]],
        "token_ids": [[[1, 2, 0], [3, 0]], [[4], [5, 6, 7]]],
        "finished": np.array([[True, True], [False, False]]),
        "kl": np.zeros((2, 2)),
    }
    return Samples(**fields | changes)


def test_samples_measure_lengths_in_tokens() -> None:
    assert samples().lengths.tolist() == [[3, 2], [1, 3]]


def test_samples_are_picked_in_order() -> None:
    good = np.array([[True, True], [False, True]])
    assert pick(samples().texts, good) == [["a b", "c"], ["e f g"]]
    assert pick(samples().token_ids, good) == [[[1, 2, 0], [3, 0]], [[5, 6, 7]]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": [["a"], ["b", "c"]]}, r"texts has shape \(2, 1, 2\), wanted \(2, 2\).*same num"),
        ({"token_ids": [[[1], [2]]]}, r"token_ids has shape \(1, 2\), wanted \(2, 2\)"),
        ({"kl": np.zeros((2, 3))}, r"kl_to_reference has shape \(2, 3\), wanted \(2, 2\)"),
        ({"finished": np.ones((0, 2), bool)}, r"finished has shape \(0, 2\)"),
        ({"finished": np.ones((2, 2))}, "wanted bool"),
    ],
)
def test_samples_refuse_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples(**changes)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (Scores(score=np.zeros(2)), r"mine has shape \(2,\), wanted \(2, 2\)"),
        (Scores(score=np.zeros((1, 2))), r"mine has shape \(1, 2\), wanted \(2, 2\)"),
        (
            Scores(score=np.zeros((2, 2)), aspects={"polite": np.zeros((2, 1))}),
            r"polite has shape \(2, 1\), wanted \(2, 2\)",
        ),
        (
            Scores(score=np.zeros((2, 2)), good=np.ones((2, 1), bool)),
            r"good has shape \(2, 1\), wanted \(2, 2\)",
        ),
        (Scores(score=np.zeros((2, 2)), good=np.full((2, 2), np.nan)), "wanted bool"),
    ],
)
def test_judges_must_judge_every_sample(scores: Scores, message: str) -> None:
    with pytest.raises(DataError, match=message):
        JudgedSamples(samples=samples(), scores={"mine": scores})
