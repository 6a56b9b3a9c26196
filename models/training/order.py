"""In which order rows are learned from, and how held-out rows are measured.

Shared by pretraining, SFT and reward modelling. The order is made here, once, from a generator,
and handed to the trainers as it is: their own samplers draw from global random state, and a
length-grouped one is not restored exactly when a run resumes in its second epoch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.language.sequences import Sequences, map_chunks, token_logprobs

WINDOW_BATCHES = 16
HELD_OUT_TOKENS = 4096


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


def rows_to_learn(rows: int, epochs: float) -> int:
    """Count the rows that so many passes take, at least one."""
    return max(1, round(rows * epochs))


def training_order(
    lengths: Sequence[int], *, total: int, batch_size: int, generator: torch.Generator
) -> list[int]:
    """Order rows for training: shuffled epochs, batches of rows of like length.

    Rows are grouped by length within windows of 16 batches, so that little is padded, and the
    batches of a window are shuffled again. Only the very last batch may be smaller.

    Args:
        lengths: Tokens of each row.
        total: Rows to learn from, more than there are rows for several epochs.
        batch_size: Rows of one optimiser step.
        generator: Draws the shuffles.

    Returns:
        Row numbers; each run of `batch_size` is one batch.
    """
    drawn: list[int] = []
    while len(drawn) < total:
        drawn += torch.randperm(len(lengths), generator=generator).tolist()
    drawn = drawn[:total]
    window = WINDOW_BATCHES * batch_size
    ordered: list[int] = []
    for start in range(0, total, window):
        rows = sorted(drawn[start : start + window], key=lambda row: lengths[row])
        batches = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
        full = len(rows) // batch_size
        for batch in torch.randperm(full, generator=generator).tolist():
            ordered += batches[batch]
        ordered += [row for batch in batches[full:] for row in batch]
    return ordered


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
