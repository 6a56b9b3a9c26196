"""Prompts with their completions as rows, and what networks say about each completion token.

Legend: batch = rows; seq = longest prompt + completion; completion = longest completion;
tokens = counted completion tokens of all rows, in row order; vocab, width = of the network.

Networks see the rows packed, without padding, so a row's numbers do not depend on its neighbours.
The state *before* completion token t stands at index prompt_length + t - 1 of its row; from it the
actor's logprob of the token and the critic's value are read. Logits are computed at those
positions only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch.utils.checkpoint import checkpoint

from models.distributed.sharding import as_forward, is_sharded
from models.distributed.team import current_team
from models.families.language_heads import language_head
from models.families.scorers import reads_whole, whole_scores
from models.language.config import SamplingConfig
from models.language.packing import cut_rows, packed_hidden
from models.progress import told

HEAD_TOKENS = 2048
"""Positions whose logits, (tokens, vocab), exist at once where no gradient is wanted."""
MOST_LOGITS = 2**28
"""So many are kept for a backward pass, 1 GiB in float32; of more, each piece is computed again."""
IMPOSSIBLE = -1e30
"""Logit of a token that must not come; finite, so that 0 * log 0 stays 0 in entropies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDistribution:
    """The distribution that completions are drawn from, and in which logprobs are measured.

    One place for what shapes it: sampler, update, reference and evaluation all ask here, so that a
    stored logprob and a recomputed one belong to the same distribution. It has no top-p or top-k.

    Attributes:
        temperature: Divides the logits.
        min_completion_tokens: EOS cannot come before it is the completion's so-many-th token.
        eos_token_id: The token that is held back.
    """

    temperature: float = 1.0
    min_completion_tokens: int = 1
    eos_token_id: int = -1

    @classmethod
    def of(cls, sampling: SamplingConfig, eos_token_id: int) -> "TokenDistribution":
        """The distribution that `sampling` describes."""
        return cls(
            temperature=sampling.temperature,
            min_completion_tokens=sampling.min_completion_tokens,
            eos_token_id=eos_token_id,
        )

    def log_softmax(self, logits: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Log-probabilities in float32.

        Args:
            logits: (tokens, vocab) of a head, in any precision.
            steps: (tokens,) which token of its completion each one is, from 0.
        """
        logits = logits.float()
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if self.min_completion_tokens > 1:
            early = steps < self.min_completion_tokens - 1
            held = torch.zeros_like(logits, dtype=torch.bool)
            held[:, self.eos_token_id] = early
            logits = logits.masked_fill(held, IMPOSSIBLE)
        return torch.log_softmax(logits, dim=-1)


PLAIN = TokenDistribution()

Entropy: TypeAlias = Literal["none", "watched", "learned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Rows of prompt and completion.

    Attributes:
        input_ids: (batch, seq) int64; zeros behind each row, which no network sees.
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
        device: torch.device | str = "cpu",
    ) -> "Sequences":
        """Join token lists row by row."""
        rows = [
            [*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)
        ]
        width = max(len(row) for row in rows)
        return cls(
            input_ids=torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device),
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

    @property
    def packed_ids(self) -> torch.Tensor:
        """The rows end to end, (packed tokens,)."""
        positions = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        return self.input_ids[positions < self.lengths[:, None]]

    def completion_index(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where completion tokens lie in the packed row, and which of its completion each is.

        Returns:
            (tokens,) indices into `packed_ids`, and (tokens,) steps from 0.
        """
        rows, steps = self.completion_mask.nonzero(as_tuple=True)
        starts = self.lengths.cumsum(0) - self.lengths
        return (starts + self.prompt_lengths)[rows] + steps, steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """What a policy says about the completions.

    Attributes:
        logprobs: (batch, completion) natural logs; 0 where masked.
        entropy: (batch, completion) nats, if asked for; 0 where masked.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor | None


def token_logprobs(
    model: Any,
    sequences: Sequences,
    *,
    distribution: TokenDistribution = PLAIN,
    entropy: Entropy = "none",
) -> TokenLogprobs:
    """Compute logprob and entropy of each completion token from one softmax, in float32.

    Args:
        model: A causal language model.
        entropy: Whether it is wanted, and whether it is part of a loss.
    """
    logprobs, entropies = as_forward(
        model, lambda: _token_logprobs(model, sequences, distribution, entropy)
    )
    return TokenLogprobs(
        logprobs=_scatter(logprobs, sequences),
        entropy=None if entropies is None else _scatter(entropies, sequences),
    )


def _token_logprobs(
    model: Any, sequences: Sequences, distribution: TokenDistribution, entropy: Entropy
) -> tuple[torch.Tensor, torch.Tensor | None]:
    ids = sequences.packed_ids
    places, steps = sequences.completion_index()
    hidden = packed_hidden(model, ids, sequences.lengths.tolist())[places - 1]
    head = language_head(model)

    def look(
        part: torch.Tensor, step: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        log_softmax = distribution.log_softmax(head(part), step)  # (part, vocab)
        logprobs = log_softmax.gather(1, target[:, None]).squeeze(1)
        if entropy == "none":
            return logprobs, None
        with torch.set_grad_enabled(torch.is_grad_enabled() and entropy == "learned"):
            return logprobs, -(log_softmax.exp() * log_softmax).sum(-1)

    many = len(places) * model.config.vocab_size > MOST_LOGITS
    if torch.is_grad_enabled() and many and not is_sharded(model):
        look = partial(checkpoint, look, use_reentrant=False, preserve_rng_state=False)
    pieces = (torch.split(one, HEAD_TOKENS) for one in (hidden, steps, ids[places]))
    logprobs, entropies = zip(*map(look, *pieces), strict=True)
    return torch.cat(logprobs), None if entropy == "none" else torch.cat(entropies)


def token_values(model: Any, sequences: Sequences) -> torch.Tensor:
    """Read the score head at the state before each completion token, (batch, completion)."""
    places, _ = sequences.completion_index()
    return _scatter(as_forward(model, lambda: _scores(model, sequences, places - 1)), sequences)


def sequence_scores(model: Any, sequences: Sequences) -> torch.Tensor:
    """Read the score head at the last token of each row, (batch,); BERT's and BART's own way."""
    if reads_whole(model):
        rows = torch.split(sequences.packed_ids, sequences.lengths.tolist())
        return as_forward(model, lambda: whole_scores(model, rows))
    ends = sequences.lengths.cumsum(0) - 1
    return as_forward(model, lambda: _scores(model, sequences, ends))


def _scores(model: Any, sequences: Sequences, places: torch.Tensor) -> torch.Tensor:
    """Apply the score head in float32: in bfloat16, 1.0 and 1.003 would be a tie; (places,)."""
    hidden = packed_hidden(model, sequences.packed_ids, sequences.lengths.tolist())[places]
    with torch.autocast(hidden.device.type, enabled=False):
        return model.score(hidden.float())[:, 0]  # type: ignore[no-any-return]


def in_chunks(
    sequences: Sequences, max_tokens: int, *, group: int | None = None, shares: int = 1
) -> Iterator[tuple[slice, Sequences]]:
    """Cut rows into runs of at most `max_tokens` tokens, as `cut_rows`."""
    for rows in cut_rows(sequences.lengths.tolist(), max_tokens, group=group, shares=shares):
        yield rows, sequences.select(rows)


@torch.no_grad()
def map_chunks(
    function: Callable[[Sequences], torch.Tensor],
    sequences: Sequences,
    max_tokens: int,
    *,
    group: int | None = None,
    what: str = "computing",
) -> torch.Tensor:
    """Apply a frozen network chunk by chunk and join what it says, (batch, [completion, ...]).

    The members of a team each do some of the chunks, each gets the whole; `what` is being told.
    """
    team = current_team()
    parts: list[torch.Tensor] = []
    width = int(sequences.completion_lengths.max())
    chunks = list(in_chunks(sequences, max_tokens, group=group, shares=team.size))
    for _, chunk in told(team.share_in_step(chunks), what, len(chunks) / team.size, "chunks"):
        part = function(chunk)
        if part.dim() > 1:
            missing = part.new_zeros(len(part), width - part.shape[1], *part.shape[2:])
            part = torch.cat([part, missing], dim=1)
        parts.append(part if team.size == 1 else part.cpu())
    return torch.cat(team.join(parts, len(chunks))).to(sequences.input_ids.device)


def _scatter(values: torch.Tensor, sequences: Sequences) -> torch.Tensor:
    """Lay (tokens,) values out as (batch, completion), zero where nothing counts."""
    mask = sequences.completion_mask
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
