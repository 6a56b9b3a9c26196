"""Prompts with their completions as rows, and what networks say about each completion token.

Legend: batch = rows; seq = longest prompt + completion; completion = longest completion;
tokens = counted completion tokens of all rows, in row order; vocab, width = of the network.

Rows are padded on the right. Attention is causal, so padding behind a row never reaches it: no
attention mask and no position ids are needed, and a row's numbers do not depend on its
neighbours. The state *before* completion token t stands at index prompt_length + t - 1; from it
the actor's logprob of the token and the critic's value are read. Logits are computed at those
positions only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "Sequences",
    "TokenLogprobs",
    "in_chunks",
    "map_chunks",
    "sequence_scores",
    "token_logprobs",
    "token_values",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Rows of prompt and completion.

    Attributes:
        input_ids: (batch, seq) int64, padded on the right.
        prompt_lengths: (batch,) int64, at least 1.
        completion_lengths: (batch,) int64, at least 1.
    """

    input_ids: torch.Tensor
    prompt_lengths: torch.Tensor
    completion_lengths: torch.Tensor

    @classmethod
    def from_lists(
        cls,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        pad_token_id: int,
        device: torch.device | str = "cpu",
    ) -> "Sequences":
        """Join token lists row by row."""
        rows = [
            [*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)
        ]
        width = max(len(row) for row in rows)
        return cls(
            input_ids=torch.tensor(
                [row + [pad_token_id] * (width - len(row)) for row in rows], device=device
            ),
            prompt_lengths=torch.tensor([len(prompt) for prompt in prompts], device=device),
            completion_lengths=torch.tensor([len(ids) for ids in completions], device=device),
        )

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens of each row, (batch,)."""
        return self.prompt_lengths + self.completion_lengths

    @property
    def completion_mask(self) -> torch.Tensor:
        """Which completion positions count, (batch, completion) bool."""
        width = int(self.completion_lengths.max())
        positions = torch.arange(width, device=self.input_ids.device)
        return positions < self.completion_lengths[:, None]

    def select(self, rows: torch.Tensor | slice) -> "Sequences":
        """Take some rows and trim padding that none of them needs."""
        lengths = self.lengths[rows]
        return Sequences(
            input_ids=self.input_ids[rows, : int(lengths.max())],
            prompt_lengths=self.prompt_lengths[rows],
            completion_lengths=self.completion_lengths[rows],
        )

    def completion_index(self, *, shift: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and column of every counted completion token, moved by `shift`, (tokens,) each."""
        rows, steps = self.completion_mask.nonzero(as_tuple=True)
        return rows, self.prompt_lengths[rows] + steps + shift


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """What a policy says about the completions.

    Attributes:
        logprobs: (batch, completion) natural logs at the sampling temperature; 0 where masked.
        entropy: (batch, completion) nats; 0 where masked.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor


def token_logprobs(
    model: Any, sequences: Sequences, *, temperature: float, entropy_gradient: bool = False
) -> TokenLogprobs:
    """Compute logprob and entropy of each completion token from one softmax, in float32.

    Args:
        model: A causal language model whose logits are its head applied to its last hidden state.
        sequences: The rows.
        temperature: The one they were sampled with.
        entropy_gradient: Whether the entropy is part of a loss.
    """
    hidden = model.base_model(sequences.input_ids, use_cache=False).last_hidden_state
    rows, columns = sequences.completion_index(shift=-1)
    logits = model.get_output_embeddings()(hidden[rows, columns]).float() / temperature
    log_softmax = torch.log_softmax(logits, dim=-1)  # (tokens, vocab)
    targets = sequences.input_ids[rows, columns + 1]
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropy = -(log_softmax.exp() * log_softmax).sum(-1)
    return TokenLogprobs(
        logprobs=_scatter(log_softmax.gather(1, targets[:, None]).squeeze(1), sequences),
        entropy=_scatter(entropy, sequences),
    )


def token_values(model: Any, sequences: Sequences) -> torch.Tensor:
    """Read the score head at the state before each completion token, (batch, completion)."""
    hidden = model.base_model(sequences.input_ids, use_cache=False).last_hidden_state
    rows, columns = sequences.completion_index(shift=-1)
    return _scatter(model.score(hidden[rows, columns]).float().squeeze(1), sequences)


def sequence_scores(model: Any, sequences: Sequences) -> torch.Tensor:
    """Read the score head at the last token of each row, (batch,)."""
    hidden = model.base_model(sequences.input_ids, use_cache=False).last_hidden_state
    rows = torch.arange(len(sequences), device=hidden.device)
    scores: torch.Tensor = model.score(hidden[rows, sequences.lengths - 1]).float().squeeze(1)
    return scores


def in_chunks(
    sequences: Sequences, max_tokens: int, *, group: int | None = None
) -> Iterator[tuple[slice, Sequences]]:
    """Cut rows, in their order, into runs whose padded size stays within `max_tokens`.

    A row longer than that stands alone. No run crosses from one group of rows into the next.
    """
    lengths = sequences.lengths.tolist()
    start = 0
    while start < len(lengths):
        last = len(lengths) if group is None else min(len(lengths), start - start % group + group)
        end, widest = start + 1, lengths[start]
        while end < last and max(widest, lengths[end]) * (end + 1 - start) <= max_tokens:
            widest = max(widest, lengths[end])
            end += 1
        yield slice(start, end), sequences.select(slice(start, end))
        start = end


@torch.no_grad()
def map_chunks(
    function: Callable[[Sequences], torch.Tensor],
    sequences: Sequences,
    max_tokens: int,
    *,
    group: int | None = None,
) -> torch.Tensor:
    """Apply a frozen network chunk by chunk and join what it says, (batch, [completion, ...])."""
    parts: list[torch.Tensor] = []
    width = int(sequences.completion_lengths.max())
    for _, chunk in in_chunks(sequences, max_tokens, group=group):
        part = function(chunk)
        if part.dim() > 1:
            missing = part.new_zeros(len(part), width - part.shape[1], *part.shape[2:])
            part = torch.cat([part, missing], dim=1)
        parts.append(part)
    return torch.cat(parts)


def _scatter(values: torch.Tensor, sequences: Sequences) -> torch.Tensor:
    """Lay (tokens,) values out as (batch, completion), zero where nothing counts."""
    mask = sequences.completion_mask
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
