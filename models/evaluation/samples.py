"""Samples: one model's completions of the prompts, and the numbers measured on each of them.

Every array is (prompts, samples). All models that are compared are sampled with the same random
seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from models.errors import DataError
from models.statistics.intervals import Flags, Floats

Sample = TypeVar("Sample")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """One model's completions.

    Attributes:
        texts: A list of samples for each prompt.
        prompt_ids: Each prompt in the model's tokens, cut to what fits its context.
        token_ids: The samples in the model's tokens, EOS included where there is one.
        finished: Whether the sample ended with EOS rather than at the limit, (prompts, samples).
        kl: Log-ratio of the model to the reference summed over the completion, nats: the k1
            estimator of the KL divergence, (prompts, samples); None without a reference that reads
            the same tokens.

    Raises:
        DataError: There is no sample, or prompts have unequal numbers of them.
    """

    texts: Sequence[Sequence[str]]
    prompt_ids: Sequence[Sequence[int]]
    token_ids: Sequence[Sequence[Sequence[int]]]
    finished: Flags
    kl: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse ragged samples, which no paired measure could read."""
        wanted = self.finished.shape
        if self.finished.dtype != np.bool_ or len(wanted) != 2 or 0 in wanted:
            raise DataError(
                f"finished has shape {wanted} and dtype {self.finished.dtype}, wanted bool of "
                "(prompts, samples) with at least one of each; evaluate on at least one prompt"
            )
        for name, nested in (("texts", self.texts), ("token_ids", self.token_ids)):
            shape = (len(nested), *sorted({len(samples) for samples in nested}))
            refuse_shape(name, shape, wanted)
        if self.kl is not None:
            refuse_shape("kl_to_reference", self.kl.shape, wanted)

    @property
    def shape(self) -> tuple[int, int]:
        """Prompts, and samples of each."""
        return self.finished.shape[0], self.finished.shape[1]

    @property
    def lengths(self) -> Floats:
        """Tokens of each sample, EOS included, (prompts, samples)."""
        return np.array([[float(len(ids)) for ids in samples] for samples in self.token_ids])

    def flat_texts(self) -> list[str]:
        """All samples' texts, prompt by prompt."""
        return [text for samples in self.texts for text in samples]

    def flat_token_ids(self) -> list[Sequence[int]]:
        """All samples' token ids, prompt by prompt."""
        return [ids for samples in self.token_ids for ids in samples]


def pick(nested: Sequence[Sequence[Sample]], flags: Flags) -> list[list[Sample]]:
    """Keep the flagged samples of each prompt, in the order sampled."""
    return [
        [sample for sample, kept in zip(samples, row, strict=True) if kept]
        for samples, row in zip(nested, flags.tolist(), strict=True)
    ]


def refuse_shape(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise where a measurement does not cover every sample exactly once.

    Raises:
        DataError: The shapes differ.
    """
    if shape != wanted:
        raise DataError(
            f"{name} has shape {shape}, wanted {wanted} as finished has; give every prompt the "
            "same number of samples, and every sample each measurement"
        )
