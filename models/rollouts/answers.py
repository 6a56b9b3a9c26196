"""A server's answer, read strictly: PPO would learn a falsehood from what was sampled otherwise."""

import math
from dataclasses import dataclass
from typing import Any

from models.errors import RolloutError
from models.files import parse_json
from models.language.config import SamplingConfig
from models.language.generation import Completion

ROUNDING = 1e-3
"""Nats that a logprob may lie above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer has to fit.

    Attributes:
        version: Of the weights, or empty where the server's answers name none.
    """

    prompt: list[int]
    sampling: SamplingConfig
    eos_token_id: int
    vocabulary: int
    version: str


def read_completion(body: bytes, asked: Asked) -> Completion:
    """Read the answer to a request for one completion.

    Raises:
        RolloutError: It is none, is damaged, or was sampled otherwise than asked.
    """
    try:
        answer: Any = parse_json(body.decode())
        (choice,) = answer["choices"]
        tokens, ended = choice["token_ids"], choice["finish_reason"]
        logprobs = choice["logprobs"]["token_logprobs"]
        version = (answer.get("metadata") or {}).get("weight_version")
        prompt = choice.get("prompt_token_ids")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RolloutError(
            "lacks token_ids, finish_reason or logprobs.token_logprobs of one completion "
            f"({type(error).__name__}: {error}); the server has to know return_token_ids and "
            "logprobs, as vLLM, SGLang and `quartet serve` do"
        ) from error
    if asked.version and version != asked.version:
        raise RolloutError(
            f"comes from weights {version!r}, wanted {asked.version!r}; the server was started "
            "again, or another run updates it: give each run a server of its own"
        )
    if prompt is not None and prompt != asked.prompt:
        raise RolloutError("belongs to another prompt; take prompts as token ids unchanged")
    _check_tokens(tokens, asked)
    _check_logprobs(logprobs, len(tokens))
    _check_end(tokens, ended, asked)
    return Completion(
        token_ids=tokens, logprobs=logprobs, finished=tokens[-1] == asked.eos_token_id
    )


def _check_tokens(tokens: Any, asked: Asked) -> None:
    whole = isinstance(tokens, list) and all(type(one) is int for one in tokens)
    if not whole or not all(0 <= one < asked.vocabulary for one in tokens):
        raise RolloutError(
            f"has token ids outside 0 to {asked.vocabulary - 1}; it serves another model"
        )
    least, most = asked.sampling.min_completion_tokens, asked.sampling.max_completion_tokens
    if not least <= len(tokens) <= most:
        raise RolloutError(
            f"has {len(tokens)} tokens, wanted {least} to {most}; the server has to know "
            "max_tokens and min_tokens"
        )


def _check_logprobs(logprobs: Any, tokens: int) -> None:
    numbers = isinstance(logprobs, list) and all(type(one) in (int, float) for one in logprobs)
    if not numbers or not all(math.isfinite(one) and one <= ROUNDING for one in logprobs):
        raise RolloutError("has logprobs that are no finite numbers up to 0; ask another server")
    if len(logprobs) != tokens:
        raise RolloutError(f"has {len(logprobs)} logprobs for {tokens} tokens, wanted one each")


def _check_end(tokens: list[int], ended: Any, asked: Asked) -> None:
    last, eos = tokens[-1], asked.eos_token_id
    if eos in tokens[:-1]:
        raise RolloutError(f"goes on after EOS ({eos}); the server has to know stop_token_ids")
    full = len(tokens) == asked.sampling.max_completion_tokens
    if last != eos and not (ended == "length" and full):
        raise RolloutError(
            f"ended with {ended!r} after {len(tokens)} tokens, the last {last}, wanted EOS ({eos}) "
            f"or {asked.sampling.max_completion_tokens} tokens; the server's context is too short, "
            "or it knows other ends than the tokenizer"
        )
