"""Measures of one model's samples, and of a model beside a baseline.

Everything measured on single samples becomes a mean over prompts with its interval: samples are
averaged within each prompt first, so the gain in a row of a table is the difference of the row's
two means. What pools all samples is a bare number.

Every array is (prompts, samples).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.errors import DataError
from models.evaluation.samples import Samples, Scores, pick, refuse_shape
from models.randomness import derive_seed
from models.statistics.controlled import controlled_gain
from models.statistics.diversity import (
    MatchedDistinct,
    distinct_n,
    good_pair_difference,
    length_matched_ratio,
    matched_distinct_2,
    ratio,
    unique_share,
)
from models.statistics.intervals import (
    Flags,
    Floats,
    Interval,
    bootstrap_interval,
    paired_bootstrap,
)

REPETITION_N = 4

WITH_RATIO = ("length", "eos_rate", "distinct_2")
"""Measures whose ratio to the baseline's is of interest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How intervals are made: resamples of the prompts, and the root of their seeds."""

    resamples: int
    seed: int

    def of(self, name: str) -> int:
        """The seed of one interval."""
        return derive_seed(self.seed, name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedSamples:
    """One model's samples with what pointwise judges say of them.

    Raises:
        DataError: A judge did not judge every sample.
    """

    samples: Samples
    scores: Mapping[str, Scores] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for judge, given in self.scores.items():
            for name, array in {judge: given.score, **given.aspects}.items():
                refuse_shape(name, array.shape, self.samples.shape)
            if given.good is not None:
                refuse_shape("good", given.good.shape, self.samples.shape)
                if given.good.dtype != np.bool_:
                    raise DataError(f"good has dtype {given.good.dtype}, wanted bool: use a mask")

    def arrays(self) -> dict[str, Floats]:
        """Name every number measured on single samples, in the order in which they are shown."""
        words = [float(len(text.split())) for text in self.samples.flat_texts()]
        repeated = [repeated_share(text.split()) for text in self.samples.flat_texts()]
        shape = self.samples.shape
        arrays = {score_name(judge): given.score for judge, given in self.scores.items()}
        for given in self.scores.values():
            arrays |= given.aspects
        if self.samples.kl is not None:
            arrays["kl_to_reference"] = self.samples.kl
        arrays["length"] = self.samples.lengths
        arrays["words"] = np.array(words).reshape(shape)
        arrays["eos_rate"] = self.samples.finished.astype(np.float64)
        arrays["repetition"] = np.array(repeated).reshape(shape)
        return arrays

    @property
    def aspects(self) -> set[str]:
        """Names of the numbers that do not apply to every prompt; NaN elsewhere is broken."""
        return {name for given in self.scores.values() for name in given.aspects}

    @property
    def good(self) -> Flags | None:
        """Which samples are as good as can be, if a judge tells."""
        return next((one.good for one in self.scores.values() if one.good is not None), None)


def score_name(judge: str) -> str:
    """The measure of a judge's scores."""
    return {"reward": "score", "gold": "gold"}.get(judge, f"{judge}_score")


def measure(judged: JudgedSamples, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Measure one model's samples.

    Returns:
        By name; numbers that pool all samples have NaN ends, and NaN where nothing was measured.
    """
    aspects, samples = judged.aspects, judged.samples
    measured = {}
    for name, array in judged.arrays().items():
        means = _prompt_means(array, may_not_apply=name in aspects)
        means = means[~np.isnan(means)] if name in aspects else means
        measured[name] = bootstrap_interval(
            means, bootstrap.resamples, bootstrap.of(f"measure/{name}")
        )
    bare = {
        "unique_share": unique_share(samples.flat_texts()),
        "distinct_2": distinct_n(samples.flat_token_ids()),
        "distinct_2_words": distinct_n([text.split() for text in samples.flat_texts()]),
    }
    if judged.good is not None:
        bare["good_pair_difference"] = good_pair_difference(pick(samples.texts, judged.good))
    return measured | {name: Interval(mean=value) for name, value in bare.items()}


def gains(
    baseline: JudgedSamples, model: JudgedSamples, bootstrap: Bootstrap
) -> dict[str, Interval]:
    """Model less baseline of everything measured on single samples of both, with intervals.

    Raises:
        DataError: The two differ in shape or in what was measured on them.
    """
    first, second = baseline.arrays(), model.arrays()
    if set(first) != set(second):
        raise DataError(
            f"the baseline's samples carry {', '.join(first)}; the model's {', '.join(second)}; "
            "wanted the same measurements of both; score and judge both models alike"
        )
    refuse_shape("the model's samples", model.samples.shape, baseline.samples.shape)
    found = {}
    for name in second:
        applies = name in model.aspects
        one, two = (_prompt_means(array[name], may_not_apply=applies) for array in (first, second))
        if applies:
            both = ~(np.isnan(one) | np.isnan(two))
            one, two = one[both], two[both]
        seed = bootstrap.of(f"bootstrap/{name}")
        found[name] = paired_bootstrap(one[:, None], two[:, None], bootstrap.resamples, seed)
    return found


def controlled_gains(baseline: JudgedSamples, model: JudgedSamples) -> dict[str, Interval]:
    """Gains by each judge's score at equal length and ending, named as in `gains`."""
    found = {}
    for judge, given in model.scores.items():
        with np.errstate(invalid="ignore"):
            gained = given.score.mean(axis=1) - baseline.scores[judge].score.mean(axis=1)
        broken = not np.isfinite(gained).all()
        found[score_name(judge)] = (
            Interval(mean=math.nan)
            if broken
            else controlled_gain(gained, baseline.samples.extent, model.samples.extent)
        )
    return found


def matched_diversity(
    baseline: JudgedSamples, model: JudgedSamples, min_completions: int
) -> MatchedDistinct | None:
    """Distinct-2 of both models' good completions, matched by prompt; None if no judge tells."""
    if baseline.good is None or model.good is None:
        return None
    first, second = (pick(one.samples.token_ids, one.good) for one in (baseline, model))  # type: ignore[arg-type]
    return matched_distinct_2(first, second, min_completions)


def ratios(
    baseline: JudgedSamples,
    model: JudgedSamples,
    means: tuple[Mapping[str, Interval], Mapping[str, Interval]],
    matched: MatchedDistinct | None,
) -> dict[str, float]:
    """Model over baseline, by name."""
    first, second = means
    found = {f"{name}_ratio": ratio(second[name].mean, first[name].mean) for name in WITH_RATIO}
    found["length_matched_distinct_2_ratio"] = length_matched_ratio(
        baseline.samples.flat_token_ids(), model.samples.flat_token_ids()
    )
    if matched is not None:
        found["matched_completions"] = float(matched.completions)
        found["matched_distinct_2_ratio"] = matched.ratio
    return found


def repeated_share(words: Sequence[str], n: int = REPETITION_N) -> float:
    """Share of a completion's n-grams that it has said before: 1 - distinct over all n-grams.

    Returns:
        0 (never twice) to just below 1; 0 below n words, which can repeat nothing.

    Source:
        seq-rep-n of Welleck et al., Neural Text Generation with Unlikelihood Training (2020).
    """
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _prompt_means(array: Floats, *, may_not_apply: bool) -> Floats:
    """Average within each prompt, (prompts,); over the samples to which a judgement applies."""
    counts = np.full(len(array), array.shape[1])
    if may_not_apply:
        counts = (~np.isnan(array)).sum(axis=1)
        array = np.nan_to_num(array, nan=0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(array.sum(axis=1) / np.where(counts == 0, np.nan, counts))
