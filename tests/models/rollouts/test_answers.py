"""Answers of a server: read where they are what was asked for, refused in one line where not."""

import json
from typing import Any

import pytest

from models.errors import RolloutError
from models.language.config import SamplingConfig
from models.language.generation import Completion
from models.rollouts.answers import Asked, read_completion

ASKED = Asked(
    prompt=[2, 3],
    sampling=SamplingConfig(max_completion_tokens=4, min_completion_tokens=2),
    eos_token_id=1,
    vocabulary=8,
    version="v.1",
)


def _answer(**changes: Any) -> bytes:
    choice = {
        "token_ids": [5, 6, 1],
        "finish_reason": "stop",
        "logprobs": {"token_logprobs": [-0.5, -1.0, 0.0]},
        "prompt_token_ids": [2, 3],
    }
    version = changes.pop("version", "v.1")
    body = {"choices": [choice | changes], "metadata": {"weight_version": version}}
    return json.dumps(body).encode()


def _logprobs(*numbers: Any) -> dict[str, Any]:
    return {"logprobs": {"token_logprobs": list(numbers)}}


def test_an_answer_is_a_completion() -> None:
    assert read_completion(_answer(), ASKED) == Completion(
        token_ids=[5, 6, 1], logprobs=[-0.5, -1.0, 0.0], finished=True
    )
    full = _answer(token_ids=[5, 6, 7, 2], finish_reason="length", **_logprobs(-1, -1, -1, -1))
    assert not read_completion(full, ASKED).finished
    # EOS as the last token that fits: servers call it either, and it is EOS.
    last = _answer(token_ids=[5, 6, 7, 1], finish_reason="length", **_logprobs(-1, -1, -1, -1))
    assert read_completion(last, ASKED).finished


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "v.0"}, "weights 'v.0', wanted 'v.1'"),
        ({"version": None}, "weights None"),
        ({"prompt_token_ids": [0, 2, 3]}, "another prompt"),
        ({"logprobs": None}, "lacks token_ids, finish_reason or logprobs"),
        (_logprobs(-0.5, -1.0), "2 logprobs for 3 tokens"),
        (_logprobs(-0.5, None, 0.0), "no finite numbers"),
        (_logprobs(-0.5, 0.1, 0.0), "no finite numbers"),
        (_logprobs(-0.5, float("-inf"), 0.0), "no finite numbers"),
        ({"token_ids": [5, 8, 1]}, "outside 0 to 7"),
        ({"token_ids": [5, True, 1]}, "outside 0 to 7"),
        ({"token_ids": "5 6 1"}, "outside 0 to 7"),
        ({"token_ids": []}, "0 tokens, wanted 2 to 4"),
        ({"token_ids": [1]}, "1 tokens, wanted 2 to 4"),
        ({"token_ids": [5, 6, 5, 6, 1]}, "5 tokens, wanted 2 to 4"),
        ({"token_ids": [5, 1, 1]}, "goes on after EOS"),
        ({"token_ids": [5, 6, 7]}, "ended with 'stop' after 3 tokens"),
        ({"token_ids": [5, 6, 7], "finish_reason": "length"}, "context is too short"),
        ({"token_ids": [5, 6, 7], "finish_reason": "abort"}, "ended with 'abort'"),
    ],
)
def test_a_damaged_answer_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RolloutError) as caught:
        read_completion(_answer(**changes), ASKED)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"choices": [{}, {}]}', b"[" * 9999]
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(RolloutError, match="lacks token_ids"):
        read_completion(body, ASKED)


def test_answers_that_name_no_weights_are_read_where_none_are_wanted() -> None:
    nameless = Asked(
        prompt=[2, 3], sampling=ASKED.sampling, eos_token_id=1, vocabulary=8, version=""
    )
    assert read_completion(_answer(version=None), nameless).finished
