"""Policies at work: completions of a model for prompts, and what the other models say of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.errors import ParameterError
from models.language.config import SamplingConfig
from models.language.folders import load_causal_model, load_tokenizer
from models.language.generation import Completion, sample_completions
from models.language.tokenizer import Messages, decode_completion, encode_prompts
from models.randomness import derive_seed

logger = logging.getLogger(__name__)

NO_LIMIT = 2**31 - 1

CHUNK_TOKENS = 16384
"""Tokens that a frozen model is given at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledText:
    """A completion as text, and whether the model ended it itself."""

    text: str
    finished: bool


def encode_to_fit(
    tokenizer: Any, model: Any, prompts: Sequence[str | Messages], sampling: SamplingConfig
) -> list[list[int]]:
    """Encode prompts so that the longest completion still fits the model's context.

    Prompts that are too long lose their beginning, and a warning says how many.

    Raises:
        ParameterError: The longest completion leaves no room for any prompt.
    """
    context: int = model.config.max_position_embeddings
    room = context - sampling.max_completion_tokens
    if room < 1:
        raise ParameterError(
            f"sampling.max_completion_tokens {sampling.max_completion_tokens} leaves no room for a "
            f"prompt in the model's context of {context}; choose at most {context - 1}"
        )
    whole = encode_prompts(tokenizer, prompts, NO_LIMIT)
    too_long = [index for index, ids in enumerate(whole) if len(ids) > room]
    if too_long:
        logger.warning(
            "%d of %d prompts are too long: got up to %d tokens, wanted at most the %d that the "
            "context of %d leaves beside sampling.max_completion_tokens; they lose their "
            "beginning. Raise model.context, or drop them with data.max_prompt_characters",
            len(too_long), len(whole), max(len(whole[index]) for index in too_long), room, context,
        )  # fmt: skip
        cut = encode_prompts(tokenizer, [prompts[index] for index in too_long], room)
        for index, ids in zip(too_long, cut, strict=True):
            whole[index] = ids
    return whole


def complete(
    *,
    model: Path,
    prompts: Sequence[str | Messages],
    sampling: SamplingConfig,
    seed: int,
    device: str,
) -> list[SampledText]:
    """Sample one completion, as text, for each prompt."""
    tokenizer = load_tokenizer(model)
    network = load_causal_model(model).to(device)
    encoded = encode_to_fit(tokenizer, network, prompts, sampling)
    completions = _sample(network, tokenizer, encoded, sampling, seed)
    return [
        SampledText(
            text=decode_completion(tokenizer, completion.token_ids), finished=completion.finished
        )
        for completion in completions
    ]


def _sample(
    network: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    sampling: SamplingConfig,
    seed: int,
) -> list[Completion]:
    return sample_completions(
        network,
        prompts,
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(derive_seed(seed, "policies.sampling")),
    )


def grouped(flat: list[Any], size: int) -> list[list[Any]]:
    """Cut a list of all samples, prompt by prompt, into `size` samples for each prompt."""
    return [flat[start : start + size] for start in range(0, len(flat), size)]
