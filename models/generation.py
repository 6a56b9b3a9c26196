"""Sampling completions: one engine for feedback, score moments, PPO rollouts and evaluation.

Prompts are padded on the left, decoded with a key-value cache, and rows that have ended leave
the batch. Every row owns its stream of uniform numbers and a token is drawn by inverting the
cumulative distribution, so a row's completion depends neither on its neighbours nor on the
batch size, and two models sampled with equal generators face equal luck: paired comparisons
become sharper.

Nothing but the temperature shapes the distribution. Top-p, top-k and repetition penalties would
make the logprobs of another distribution than the one PPO learns about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.configs.sampling import SamplingConfig
from models.errors import ParameterError

__all__ = ["Completion", "sample_completions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled completion.

    Attributes:
        token_ids: At least one token; the last is EOS exactly if `finished`.
        finished: Whether the model ended the completion itself.
    """

    token_ids: list[int]
    finished: bool


@torch.no_grad()
def sample_completions(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: SamplingConfig,
    eos_token_id: int,
    pad_token_id: int,
    generator: torch.Generator,
) -> list[Completion]:
    """Sample one completion for each prompt, in the prompts' order.

    Args:
        model: A causal language model of transformers.
        prompts: Token ids, none empty; repeat a prompt to sample it more than once.
        sampling: Temperature, longest completion, batch size.
        eos_token_id: Ends a completion and is part of it.
        pad_token_id: Fills the left of shorter prompts; never counted.
        generator: A CPU generator; drawn from once, by prompts x longest completion.

    Raises:
        ParameterError: A prompt is empty, or leaves no room for the longest completion.
    """
    _check_room(model, prompts, sampling)
    was_training = model.training
    model.eval()
    uniforms = torch.rand(
        len(prompts), sampling.max_completion_tokens, generator=generator, dtype=torch.float64
    )
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    completions: dict[int, Completion] = {}
    for start in range(0, len(by_length), sampling.batch_size):
        rows = by_length[start : start + sampling.batch_size]
        sampled = _sample_batch(
            model,
            [prompts[row] for row in rows],
            uniforms[rows].to(model.device),
            temperature=sampling.temperature,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
        )
        completions.update(zip(rows, sampled, strict=True))
    model.train(was_training)
    return [completions[row] for row in range(len(prompts))]


def _check_room(model: Any, prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> None:
    context: int = model.config.max_position_embeddings
    longest = max((len(prompt) for prompt in prompts), default=0)
    if any(len(prompt) == 0 for prompt in prompts):
        raise ParameterError(
            "a prompt has no tokens; every prompt needs at least one, "
            "drop empty prompts before sampling"
        )
    if longest + sampling.max_completion_tokens > context:
        raise ParameterError(
            f"a prompt of {longest} tokens and max_completion_tokens "
            f"{sampling.max_completion_tokens} exceed the model's context of {context}; truncate "
            "prompts to the rest of the context or lower sampling.max_completion_tokens"
        )


def _sample_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    uniforms: torch.Tensor,
    *,
    temperature: float,
    eos_token_id: int,
    pad_token_id: int,
) -> list[Completion]:
    """Decode one batch to its end; `uniforms` is (batch, longest completion) in [0, 1)."""
    device = uniforms.device
    width = max(len(prompt) for prompt in prompts)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    input_ids = torch.tensor(
        [[pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts],
        device=device,
    )
    attention_mask = torch.arange(width, device=device) >= (width - lengths)[:, None]
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    tokens: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    alive = torch.arange(len(prompts), device=device)
    cache: Any = None

    for step in range(uniforms.shape[1]):
        output = model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        drawn = _draw(output.logits[:, -1].float() / temperature, uniforms[alive, step])
        for row, token in zip(alive.tolist(), drawn.tolist(), strict=True):
            tokens[row].append(token)
            finished[row] = token == eos_token_id
        going_on = (drawn != eos_token_id).nonzero().flatten()
        if going_on.numel() == 0:
            break
        if going_on.numel() < alive.numel():
            cache.batch_select_indices(going_on)
            alive, drawn = alive[going_on], drawn[going_on]
            attention_mask, position_ids = attention_mask[going_on], position_ids[going_on]
        input_ids = drawn[:, None]
        position_ids = position_ids[:, -1:] + 1
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(alive), 1)], dim=1)
    return [
        Completion(token_ids=ids, finished=end) for ids, end in zip(tokens, finished, strict=True)
    ]


def _draw(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distribution: (batch, vocab) logits, (batch,) uniforms -> (batch,)."""
    cumulative = torch.softmax(logits, dim=-1).double().cumsum(dim=-1)
    targets = uniforms * cumulative[:, -1]
    drawn = torch.searchsorted(cumulative, targets[:, None], right=True).squeeze(1)
    return drawn.clamp(max=logits.shape[-1] - 1)
