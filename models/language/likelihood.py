"""Held-out loss, and the two units in which people compare it: perplexity and bits per byte.

Perplexity depends on the tokenizer, bits per byte does not: models with different vocabularies
are compared by the latter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.language.sequences import Sequences, map_chunks, token_logprobs

HELD_OUT_TOKENS = 4096
"""Most tokens of one forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLoss:
    """Negative log-likelihood of completions, in nats.

    Attributes:
        nll_sum: Over all completion tokens.
        token_count: Of the completions.
    """

    nll_sum: float
    token_count: int

    @property
    def mean(self) -> float:
        """Nats per token; each token counts the same, whatever batch it was in."""
        return self.nll_sum / self.token_count if self.token_count else math.nan


def held_out_loss(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
) -> HeldOutLoss:
    """Measure how well a model predicts completions after their prompts, token by token.

    Args:
        model: A causal language model.
        prompts: At least one token each.
        completions: At least one token each; what is predicted.
    """
    by_length = sorted(
        range(len(prompts)), key=lambda row: len(prompts[row]) + len(completions[row])
    )
    sequences = Sequences.from_lists(
        [prompts[row] for row in by_length],
        [completions[row] for row in by_length],
        device=model.device,
    )
    was_training = model.training
    model.eval()
    logprobs = map_chunks(
        lambda chunk: token_logprobs(model, chunk).logprobs,
        sequences,
        HELD_OUT_TOKENS,
    )
    model.train(was_training)
    return HeldOutLoss(
        nll_sum=-float(logprobs.double().sum()),
        token_count=sum(len(completion) for completion in completions),
    )


def perplexity(nll_sum: float, token_count: int) -> float:
    """Turn a summed negative log-likelihood into perplexity.

    Args:
        nll_sum: Sum of -ln p over all predicted tokens, nats.
        token_count: Predicted tokens.

    Returns:
        exp(nll_sum / token_count); NaN of no tokens, infinity beyond the largest float.
    """
    if token_count == 0:
        return math.nan
    try:
        return math.exp(nll_sum / token_count)
    except OverflowError:
        return math.inf


def bits_per_byte(nll_sum: float, byte_count: int) -> float:
    """Turn a summed negative log-likelihood into bits per byte of UTF-8 text.

    Args:
        nll_sum: Sum of -ln p over all predicted tokens, nats.
        byte_count: UTF-8 bytes of the text that these tokens spell.

    Returns:
        nll_sum / ln 2 / byte_count; NaN of no bytes.
    """
    return nll_sum / math.log(2) / byte_count if byte_count else math.nan
