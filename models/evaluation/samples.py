"""Samples: one model's completions of the prompts, and the numbers measured on each of them.

Every array is (prompts, samples). All models that are compared are sampled with the same random
seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from models.errors import DataError
from models.rows import Content
from models.statistics.controlled import Extent
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

    @property
    def extent(self) -> Extent:
        """How long the samples are in tokens, and which ended."""
        return Extent(lengths=self.lengths, ended=self.finished)

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What a pointwise judge says of one model's samples.

    Attributes:
        score: The better the higher, (prompts, samples).
        aspects: Further numbers by name, such as `polite`, (prompts, samples); NaN where one does
            not apply.
        good: Whether a sample is as good as it can be, (prompts, samples); None where the judge
            cannot tell.
    """

    score: Floats
    aspects: Mapping[str, Floats] = field(default_factory=dict)
    good: Flags | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two completions of one prompt, to be compared."""

    prompt: Content
    first: Content
    second: Content

    def to_row(self, preference: float) -> dict[str, Any] | None:
        """The canonical preference row; None where nobody was preferred."""
        if preference not in (0.0, 1.0):
            return None
        chosen, rejected = self.first, self.second
        if preference == 0.0:
            chosen, rejected = rejected, chosen
        return {"prompt": self.prompt, "chosen": chosen, "rejected": rejected}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preferences:
    """What a pairwise judge says of pairs.

    Attributes:
        preference: 1 where the first completion is preferred, 0 where the second is, 0.5 for a tie,
            NaN where the judge abstains, (pairs,).
        facts: How far the judge can be trusted, such as the share of answers that followed the
            position; names to finite numbers.
    """

    preference: Floats
    facts: Mapping[str, float] = field(default_factory=dict)


class PointwiseJudge(Protocol):
    """Anyone who gives a completion a score."""

    def score(self, prompts: Sequence[Content], samples: Samples, model: Path) -> Scores:
        """Score every sample of a model; `model` is its folder."""


@runtime_checkable
class PairwiseJudge(Protocol):
    """Anyone who prefers one of two completions."""

    def compare(self, pairs: Sequence[Pair]) -> Preferences:
        """Compare each pair, in the order given."""


class Annotator(PairwiseJudge, Protocol):
    """A pairwise judge whose preferences a reward model learns from."""

    def describe(self) -> dict[str, Any]:
        """Say in plain values who compares and how reliably, for the dataset's report."""


Judge: TypeAlias = PointwiseJudge | PairwiseJudge
