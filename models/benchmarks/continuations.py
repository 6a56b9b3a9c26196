"""Log-likelihood of given continuations: how multiple choice and cloze are answered.

The rule of tokenisation: a plain context and its continuation are encoded *together* and the
result is split where the context alone would end, so that the continuation has the tokens that it
would have in running text, even where its first letters merge with the context's last. Spaces at
the end of a context belong to the continuation. An empty context becomes the prefix token (BOS,
else EOS). A chat prompt ends with the template's own token, so there both are encoded separately,
as they are when a model generates.

Source: lm-evaluation-harness 0.4.13, `lm_eval/api/model.py`, `_encode_pair` and `loglikelihood`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.distributed.team import current_team
from models.families.language_heads import language_head
from models.language.likelihood import prefix_token
from models.language.packing import packed_hidden
from models.language.sequences import (
    HEAD_TOKENS,
    PLAIN,
    Sequences,
    in_chunks,
)
from models.language.tokenizer import NO_LIMIT, encode_prompts

CHUNK_TOKENS = 16384
ROWS_AT_ONCE = 2048
"""Rows laid out as one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A context and its continuation as token ids, neither empty."""

    context: list[int]
    continuation: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """Likelihood of a continuation under a model.

    Attributes:
        logprob: ln p of the whole continuation.
        tokens: How many it has.
        greedy: Whether greedy decoding gives it: each of its tokens is the most likely one.
    """

    logprob: float
    tokens: int
    greedy: bool


def encode_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
    """Encode contexts together with their continuations, by the module's rule."""
    moved = []
    for context, continuation in pairs:
        bare = context.rstrip()
        moved.append((bare, context[len(bare) :] + continuation))
    contexts = encode_prompts(tokenizer, [context for context, _ in moved], NO_LIMIT)
    wholes = encode_prompts(tokenizer, [context + rest for context, rest in moved], NO_LIMIT)
    prefix = prefix_token(tokenizer)
    encoded = []
    for before, whole in zip(contexts, wholes, strict=True):
        # Where all of it merges into the context's last token, that token is what is predicted.
        split = min(len(before), len(whole) - 1)
        encoded.append(Continuation(context=whole[:split] or [prefix], continuation=whole[split:]))
    return encoded


def fit_context(group: Sequence[Continuation], room: int) -> tuple[list[Continuation], bool]:
    """Cut the contexts of one question from the left, all of them alike.

    Args:
        room: Most tokens of a context, at least 1.

    Returns:
        The continuations, and whether any context was cut.
    """
    cut = any(len(one.context) > room for one in group)
    return [
        Continuation(context=one.context[-room:], continuation=one.continuation) for one in group
    ], cut


@torch.no_grad()
def likelihoods(model: Any, continuations: Sequence[Continuation]) -> list[Likelihood]:
    """Compute the log-likelihood of continuations, one forward pass per chunk of rows.

    The members of a team each do some of the chunks, and each gets all numbers.

    Returns:
        One for each continuation, in their order.
    """
    order = sorted(
        range(len(continuations)),
        key=lambda row: len(continuations[row].context) + len(continuations[row].continuation),
    )
    team = current_team()
    sums: list[tuple[float, int]] = []
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = [continuations[row] for row in order[start : start + ROWS_AT_ONCE]]
        sequences = Sequences.from_lists(
            [one.context for one in part], [one.continuation for one in part], device=model.device
        )
        parts = []
        for _, chunk in team.share(in_chunks(sequences, CHUNK_TOKENS, shares=team.size)):
            summed, missed = _sums(model, chunk)
            parts.append(list(zip(summed.tolist(), missed.tolist(), strict=True)))
        for rows in team.join(parts):
            sums += rows
    found = {
        row: Likelihood(
            logprob=logprob, tokens=len(continuations[row].continuation), greedy=not missed
        )
        for row, (logprob, missed) in zip(order, sums, strict=True)
    }
    return [found[row] for row in range(len(continuations))]


def _sums(model: Any, sequences: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed logprob, (batch,) float64, and tokens that are not the most likely, (batch,) int64."""
    ids = sequences.packed_ids
    places, steps = sequences.completion_index()
    rows = sequences.completion_mask.nonzero(as_tuple=True)[0]
    hidden = packed_hidden(model, ids, sequences.lengths.tolist())[places - 1]
    head = language_head(model)
    summed = torch.zeros(len(sequences), dtype=torch.float64, device=ids.device)
    missed = torch.zeros(len(sequences), dtype=torch.int64, device=ids.device)
    for part, step, target, row in zip(
        *(torch.split(one, HEAD_TOKENS) for one in (hidden, steps, ids[places], rows)), strict=True
    ):
        log_softmax = PLAIN.log_softmax(head(part), step)  # (part, vocab)
        logprob = log_softmax.gather(1, target[:, None]).squeeze(1)
        summed.index_add_(0, row, logprob.double())
        missed.index_add_(0, row, (log_softmax.argmax(-1) != target).long())
    return summed, missed
