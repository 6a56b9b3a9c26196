"""How well a model predicts held-out texts and completions: loss, perplexity, bits per byte.

Perplexity depends on the tokenizer, bits per byte does not: models with different vocabularies are
compared by the latter. Plain texts are read as they stand; of demonstrations only completion and
EOS are predicted, after their prompt, as in SFT, and for the bytes an EOS counts none.

Source: Gao et al., The Pile (2020), section 3.1: bits per byte = (tokens / bytes) * (nats a token)
/ ln 2.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ParameterError
from models.language.folders import load_causal_model, load_frozen, load_tokenizer
from models.language.sequences import Sequences, map_chunks, token_logprobs
from models.language.tokenizer import (
    Messages,
    as_completion,
    encode_completions,
    encode_prompts,
    encode_texts,
)

HELD_OUT_TOKENS = 4096
"""Most tokens of one forward pass."""

WINDOWS_AT_ONCE = 1024
"""Rows that are laid out as one table; it bounds memory, never the result."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLoss:
    """Negative log-likelihood of texts or completions.

    Attributes:
        nll_sum: -ln p over all predicted tokens, nats.
        token_count: Predicted tokens.
        byte_count: UTF-8 bytes of the text that they spell; 0 where they were not counted.
    """

    nll_sum: float
    token_count: int
    byte_count: int = 0

    @property
    def mean(self) -> float:
        """Nats per token; each token counts the same, whatever batch it was in."""
        return self.nll_sum / self.token_count if self.token_count else math.nan

    @property
    def perplexity(self) -> float:
        """exp(nats per token); depends on the tokenizer."""
        return perplexity(self.nll_sum, self.token_count)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers; NaN where no bytes were counted."""
        return bits_per_byte(self.nll_sum, self.byte_count)


def held_out_loss(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    most_tokens: int | None = None,
) -> HeldOutLoss:
    """Measure how well a model predicts completions after their prompts, token by token.

    Prompts and completions have at least one token each.

    Args:
        most_tokens: Of one forward pass, if fewer than `HELD_OUT_TOKENS`; bounds memory only.
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
        min(HELD_OUT_TOKENS, most_tokens or HELD_OUT_TOKENS),
        what="measuring held-out",
    )
    model.train(was_training)
    return HeldOutLoss(
        nll_sum=-float(logprobs.double().sum()),
        token_count=sum(len(completion) for completion in completions),
    )


def perplexity(nll_sum: float, token_count: int) -> float:
    """Compute exp(nll_sum / token_count); NaN of no tokens, infinity beyond the largest float."""
    if token_count == 0:
        return math.nan
    try:
        return math.exp(nll_sum / token_count)
    except OverflowError:
        return math.inf


def bits_per_byte(nll_sum: float, byte_count: int) -> float:
    """Compute nll_sum (nats) / ln 2 / byte_count (UTF-8 bytes of the text); NaN of no bytes."""
    return nll_sum / math.log(2) / byte_count if byte_count else math.nan


def text_likelihood(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
) -> HeldOutLoss:
    """Measure how well a model predicts texts, each token exactly once.

    A text is read after its prefix token (BOS, else EOS), which is never predicted itself; no EOS
    is predicted behind it. A text longer than the window is read in overlapping windows: the first
    predicts all of its tokens, each later one the next `stride` tokens from the `window - stride`
    before them. A smaller stride gives each token more context and costs more.

    Args:
        texts: Any texts; empty ones count for nothing.
        window: Tokens that the model sees at once, at most its context, which is the default.
        stride: Tokens predicted by each window after the first; half a window by default.

    Raises:
        ParameterError: A window beyond the context, or a stride that leaves no context.

    Source:
        Press et al., Shortformer (2021), section 2: a sliding window with stride S.
    """
    context: int = model.config.max_position_embeddings
    window = context if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 2 <= window <= context or not 1 <= stride < window:
        raise ParameterError(
            f"window {window} and stride {stride} do not fit; wanted a window of 2 to the model's "
            f"context of {context} tokens and a stride of at least 1 below the window"
        )
    prefix = prefix_token(tokenizer)
    pairs = [
        pair
        for ids in encode_texts(tokenizer, texts)
        for pair in _windows([prefix, *ids], window, stride)
    ]
    nll_sum, token_count = 0.0, 0
    for start in range(0, len(pairs), WINDOWS_AT_ONCE):
        prompts, predicted = zip(*pairs[start : start + WINDOWS_AT_ONCE], strict=True)
        loss = held_out_loss(model, prompts, predicted)
        nll_sum += loss.nll_sum
        token_count += loss.token_count
    return HeldOutLoss(
        nll_sum=nll_sum,
        token_count=token_count,
        byte_count=sum(len(text.encode()) for text in texts),
    )


def prefix_token(tokenizer: Any) -> int:
    """The token before a text that has none: BOS, else EOS, with which pretraining parts texts."""
    bos: int | None = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id) if bos is None else bos


def measure_likelihood(
    model: Path,
    *,
    texts: Sequence[str],
    demonstrations: Sequence[tuple[str | Messages, str]],
    device: str,
) -> dict[str, float]:
    """Measure the model in a folder on plain texts and on prompts with a completion each.

    Returns:
        perplexity_texts and bits_per_byte_texts where there are texts, perplexity_demonstrations
        and bits_per_byte_demonstrations where there are demonstrations.
    """
    tokenizer = load_tokenizer(model)
    network = load_frozen(load_causal_model, model, device)
    measured: dict[str, float] = {}
    if any(texts):
        found = text_likelihood(network, tokenizer, texts)
        measured["perplexity_texts"] = found.perplexity
        measured["bits_per_byte_texts"] = found.bits_per_byte
    if demonstrations:
        measured |= _of_demonstrations(model, network, tokenizer, demonstrations)
    return measured


def _of_demonstrations(
    model: Path, network: Any, tokenizer: Any, demonstrations: Sequence[tuple[str | Messages, str]]
) -> dict[str, float]:
    context: int = network.config.max_position_embeddings
    completions = encode_completions(tokenizer, [as_completion(*one) for one in demonstrations])
    fitting = [index for index, ids in enumerate(completions) if len(ids) < context]
    if len(fitting) < len(completions):
        logger.warning(
            "%d of %d demonstrations fill the context of %d tokens of %s and are left out; its "
            "perplexity is of fewer texts than other models'",
            len(completions) - len(fitting), len(completions), context, model,
        )  # fmt: skip
    if not fitting:
        return {}
    kept = [completions[index] for index in fitting]
    prompts = encode_prompts(
        tokenizer,
        [demonstrations[index][0] for index in fitting],
        [context - len(ids) for ids in kept],
    )
    loss = held_out_loss(network, prompts, kept)
    byte_count = sum(len(demonstrations[index][1].encode()) for index in fitting)
    return {
        "perplexity_demonstrations": loss.perplexity,
        "bits_per_byte_demonstrations": bits_per_byte(loss.nll_sum, byte_count),
    }


def _windows(ids: list[int], window: int, stride: int) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a text into what is given and what is predicted; every token but the first, once."""
    done = 1
    while done < len(ids):
        end = min(len(ids), window if done == 1 else done + stride)
        yield ids[max(0, end - window) : done], ids[done:end]
        done = end
