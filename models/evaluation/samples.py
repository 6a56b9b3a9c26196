"""Samples of one model on the held-out prompts, with everything that was measured on them.

What sampling, the reward models and the gold judge hand to the evaluation; a gold judge's rule
never comes here, only its numbers. Every array is (prompts, samples).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Sample = TypeVar("Sample")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldJudgement:
    """What a gold judge says of each sample.

    Attributes:
        gold: The judge's score, 0 to 1, (prompts, samples).
        good: Whether the sample is as good as it can be, bool, (prompts, samples).
        correct: 1 or 0, NaN where it does not apply, (prompts, samples).
        polite: 1 or 0, NaN where it does not apply, (prompts, samples).
        refusal: 1 where a request to be declined was declined, 0 where it was not, NaN where the
            prompt needs no refusal, (prompts, samples).
    """

    gold: Floats
    good: Flags
    correct: Floats | None = None
    polite: Floats | None = None
    refusal: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicySamples:
    """One model's samples of the held-out prompts; both models use the same prompts and seeds.

    Attributes:
        texts: Completions as text, a list of samples for each prompt.
        token_ids: The same as token ids, EOS included where there is one.
        finished: Whether the sample ended with EOS rather than at the limit, (prompts, samples).
        score: The reward model's score, (prompts, samples).
        kl: Log-ratio of the model to the reference summed over the completion, nats: the k1
            estimator of the KL divergence, 0 for the SFT model, (prompts, samples).
        gold: The gold judge's arrays, where there is one.
        judge_score: The held-out reward model's score, where there is one, (prompts, samples).

    Raises:
        DataError: Texts, token ids and arrays are not all (prompts, samples), are empty, or
            finished and good are not bool.
    """

    texts: Sequence[Sequence[str]]
    token_ids: Sequence[Sequence[Sequence[int]]]
    finished: Flags
    score: Floats
    kl: Floats
    gold: GoldJudgement | None = None
    judge_score: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse ragged samples, which no paired measure could read."""
        wanted = self.finished.shape
        if len(wanted) != 2 or 0 in wanted:
            raise DataError(
                f"finished has shape {wanted}, wanted (prompts, samples) with at least one of "
                "each; evaluate on at least one held-out prompt"
            )
        for name, nested in (("texts", self.texts), ("token_ids", self.token_ids)):
            counts = sorted({len(samples) for samples in nested})
            _refuse_shape(name, (len(nested), *counts), wanted)
        for name, array in self.arrays().items():
            _refuse_shape(name, array.shape, wanted)
        flags = [self.finished] if self.gold is None else [self.finished, self.gold.good]
        if any(array.dtype != np.bool_ for array in flags):
            raise DataError(
                f"finished and good have dtypes {[str(array.dtype) for array in flags]}, wanted "
                "bool; compare with a bound first, as NaN would count as true"
            )

    @property
    def lengths(self) -> Floats:
        """Tokens of each sample, EOS included, (prompts, samples)."""
        return np.array([[float(len(ids)) for ids in samples] for samples in self.token_ids])

    def arrays(self) -> dict[str, Floats]:
        """Name every number measured on single samples, in the order in which they are shown."""
        arrays: dict[str, Floats | Flags | None] = {
            "score": self.score,
            "judge_score": self.judge_score,
        }
        if self.gold is not None:
            for name in ("gold", "correct", "polite", "good", "refusal"):
                arrays[name] = getattr(self.gold, name)
        arrays |= {"kl_to_reference": self.kl, "length": self.lengths, "eos_rate": self.finished}
        return {
            name: np.asarray(array, float) for name, array in arrays.items() if array is not None
        }

    def flat_token_ids(self) -> list[Sequence[int]]:
        """All samples' token ids, prompt by prompt."""
        return [ids for samples in self.token_ids for ids in samples]

    def flat_texts(self) -> list[str]:
        """All samples' texts, prompt by prompt."""
        return [text for samples in self.texts for text in samples]

    def good_texts(self) -> list[list[str]]:
        """The good samples' texts of each prompt; none without a gold judge."""
        return _pick(self.texts, self.gold)

    def good_token_ids(self) -> list[list[Sequence[int]]]:
        """The good samples' token ids of each prompt; none without a gold judge."""
        return _pick(self.token_ids, self.gold)


def _refuse_shape(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise where a measurement does not cover every sample exactly once."""
    if shape != wanted:
        raise DataError(
            f"{name} has shape {shape}, wanted {wanted} as finished has; give every prompt the "
            "same number of samples, and every sample each measurement"
        )


def _pick(nested: Sequence[Sequence[Sample]], gold: GoldJudgement | None) -> list[list[Sample]]:
    """Keep the good samples of each prompt, in the order sampled."""
    if gold is None:
        return [[] for _ in nested]
    return [
        [sample for sample, good in zip(samples, flags, strict=True) if good]
        for samples, flags in zip(nested, gold.good.tolist(), strict=True)
    ]
