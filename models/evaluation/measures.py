"""Measures of one model's samples, in units in which any models can be compared.

What was sampled arrives as `ModelSamples`, the judges' scores as arrays; everything measured on
single samples becomes a mean over prompts with its interval, what pools all samples a bare number.
Words, not tokens, where models with other tokenizers would count differently.

Every array is (prompts, samples).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.randomness import derive_seed
from models.statistics.diversity import distinct_n, unique_share
from models.statistics.intervals import Interval, bootstrap_interval

Floats = NDArray[np.float64]

REPETITION_N = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSamples:
    """One model's completions of the prompts; all models face equal luck.

    Attributes:
        texts: A list of samples for each prompt.
        prompt_ids: Each prompt as the model's tokenizer has it, cut to what fits.
        token_ids: The samples as token ids, EOS included where there is one.
        finished: Whether the sample ended with EOS rather than at the limit, (prompts, samples).
        kl: Log-ratio of the model to the reference summed over the completion, nats: the k1
            estimator of the KL divergence, (prompts, samples); None without a reference that
            reads the same tokens.

    Raises:
        DataError: There is no sample, or prompts have unequal numbers of them.
    """

    texts: Sequence[Sequence[str]]
    prompt_ids: Sequence[Sequence[int]]
    token_ids: Sequence[Sequence[Sequence[int]]]
    finished: NDArray[np.bool_]
    kl: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse what no measure could read."""
        wanted = self.finished.shape
        counts = {len(samples) for nested in (self.texts, self.token_ids) for samples in nested}
        if len(wanted) != 2 or 0 in wanted or counts != {wanted[1]}:
            raise DataError(
                f"samples have shape {wanted} and {sorted(counts)} texts a prompt, wanted the same "
                "number, at least one, for each of at least one prompt; give some prompts"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Prompts and samples of each."""
        return self.finished.shape[0], self.finished.shape[1]

    def flat_texts(self) -> list[str]:
        """All samples' texts, prompt by prompt."""
        return [text for samples in self.texts for text in samples]


def measure(
    samples: ModelSamples, scores: Mapping[str, Floats], *, resamples: int, seed: int
) -> dict[str, Interval]:
    """Measure one model's samples.

    Args:
        samples: What it said.
        scores: What pointwise judges said of each sample, by judge.
        resamples: How often the prompts are drawn anew for an interval.
        seed: Root of the drawings.

    Returns:
        By name, scores first. Numbers that pool all samples have NaN ends.
    """
    words = [text.split() for text in samples.flat_texts()]
    arrays: dict[str, Floats] = {f"{judge}_score": values for judge, values in scores.items()}
    if samples.kl is not None:
        arrays["kl_to_reference"] = samples.kl
    lengths = [[float(len(ids)) for ids in row] for row in samples.token_ids]
    arrays["length"] = np.array(lengths)
    arrays["words"] = np.array([float(len(one)) for one in words]).reshape(samples.shape)
    arrays["eos_rate"] = samples.finished.astype(np.float64)
    repeated = [repeated_share(one) for one in words]
    arrays["repetition"] = np.array(repeated).reshape(samples.shape)
    measured = {
        name: bootstrap_interval(
            array.mean(axis=1), resamples, derive_seed(seed, f"measure/{name}")
        )
        for name, array in arrays.items()
    }
    measured["distinct_2"] = _bare(distinct_n(words))
    measured["unique_share"] = _bare(unique_share(samples.flat_texts()))
    return measured


def repeated_share(words: Sequence[str], n: int = REPETITION_N) -> float:
    """Share of a completion's n-grams that it has said before: 1 - distinct over all n-grams.

    Args:
        words: Of one completion.
        n: Length of an n-gram.

    Returns:
        0 (never twice) to just below 1; 0 below n words, which can repeat nothing.

    Source:
        seq-rep-n of Welleck et al., Neural Text Generation with Unlikelihood Training (2020).
    """
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _bare(value: float) -> Interval:
    """A number without an interval."""
    return Interval(mean=value, low=math.nan, high=math.nan)
