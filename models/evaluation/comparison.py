"""Evaluation: the SFT model against PPO's policy on held-out prompts, as numbers and a table.

The last stage. Sampling, scoring and judging happen elsewhere and arrive as arrays; here they
become means, paired gains with intervals, diversity and the verdict. All functions are pure.

Shapes: every array is (prompts, samples). A mean is taken within each prompt first and then over
the prompts, so the gain in a row of the table is the difference of the row's two means.
"""

import math

import numpy as np

from models.errors import DataError
from models.evaluation.checks import decide
from models.evaluation.config import EvaluationConfig
from models.evaluation.evidence import (
    GOLD_JUDGE,
    HELD_OUT_JUDGE,
    OWN_JUDGE,
    Evidence,
    GoodDiversity,
)
from models.evaluation.merged_comparison import Comparison
from models.evaluation.samples import Floats, PolicySamples
from models.randomness import derive_seed
from models.statistics.diversity import (
    MatchedDistinct,
    distinct_n,
    good_pair_difference,
    length_matched_ratio,
    matched_distinct_2,
    ratio,
    unique_share,
)
from models.statistics.intervals import Interval, paired_bootstrap
from models.statistics.win_rates import prompt_preferences

# Judgements that do not apply to every prompt; elsewhere a NaN is a broken number.
_MAY_NOT_APPLY = ("correct", "polite", "refusal")

_JUDGES = {"gold": GOLD_JUDGE, "judge_score": HELD_OUT_JUDGE, "score": OWN_JUDGE}
"""Who may judge the gain, best first, by the array that is judged by."""

_WITH_RATIO = ("length", "eos_rate", "distinct_2")


def summarise(samples: PolicySamples) -> dict[str, float]:
    """Give the metrics of one model's samples; NaN where there is nothing to measure."""
    means = {name: _mean(name, array) for name, array in samples.arrays().items()}
    means["unique_share"] = unique_share(samples.flat_texts())
    means["distinct_2"] = distinct_n(samples.flat_token_ids())
    if samples.gold is not None:
        means["good_pair_difference"] = good_pair_difference(samples.good_texts())
    return means


def compare(
    sft: PolicySamples, ppo: PolicySamples, config: EvaluationConfig, seed: int
) -> Comparison:
    """Compare PPO's policy with the SFT model and judge it.

    Args:
        sft: Samples of the SFT model.
        ppo: Samples of PPO's policy, of the same prompts in the same order.
        config: Resamples of the bootstrap and the verdict's bounds.
        seed: Root of the bootstrap's seeds.

    Returns:
        Means, gains with intervals, ratios and the verdict.

    Raises:
        DataError: The two differ in shape or in what was measured on them.
    """
    sft_arrays, ppo_arrays = sft.arrays(), ppo.arrays()
    _refuse_unlike(sft_arrays, ppo_arrays)
    sft_means, ppo_means = summarise(sft), summarise(ppo)
    gains = {
        name: _gain(name, sft_arrays[name], ppo_arrays[name], config.bootstrap_resamples, seed)
        for name in ppo_arrays
    }
    matched = (
        None
        if ppo.gold is None
        else matched_distinct_2(
            sft.good_token_ids(), ppo.good_token_ids(), config.min_matched_completions
        )
    )
    judged = next(name for name in _JUDGES if name in gains)
    evidence = _evidence(judged, gains, sft_means, ppo_means, matched, len(ppo.texts))
    return Comparison(
        prompts=len(ppo.texts),
        samples_per_prompt=ppo.finished.shape[1],
        judge=evidence.judge,
        independent=evidence.independent,
        overoptimised=evidence.overoptimised,
        sft=sft_means,
        ppo=ppo_means,
        gains=gains,
        ratios={
            **{f"{name}_ratio": ratio(ppo_means[name], sft_means[name]) for name in _WITH_RATIO},
            **_paired_ratios(sft, ppo, matched),
            "win_rate": float(prompt_preferences(ppo_arrays[judged], sft_arrays[judged]).mean()),
        },
        verdict=decide(evidence, config),
    )


def _paired_ratios(
    sft: PolicySamples, ppo: PolicySamples, matched: MatchedDistinct | None
) -> dict[str, float]:
    """Give the ratios of distinct-2 that need both models' samples."""
    ratios = {
        "length_matched_distinct_2_ratio": length_matched_ratio(
            sft.flat_token_ids(), ppo.flat_token_ids()
        )
    }
    if matched is not None:
        ratios["matched_completions"] = float(matched.completions)
        ratios["matched_distinct_2_ratio"] = matched.ratio
    return ratios


def _refuse_unlike(sft: dict[str, Floats], ppo: dict[str, Floats]) -> None:
    """Raise where the two models cannot be paired."""
    if list(sft) != list(ppo):
        raise DataError(
            f"SFT's samples carry {', '.join(sft)}; PPO's {', '.join(ppo)}; wanted the same "
            "measurements of both; score and judge both models alike"
        )
    if sft["score"].shape != ppo["score"].shape:
        raise DataError(
            f"SFT's samples have shape {sft['score'].shape}, PPO's {ppo['score'].shape}; wanted "
            "the same (prompts, samples); sample both models on one list of prompts"
        )


def _gain(name: str, sft: Floats, ppo: Floats, resamples: int, seed: int) -> Interval:
    """Bound the mean gain over the prompts to which the measurement applies in both models."""
    first, second = _prompt_means(name, sft), _prompt_means(name, ppo)
    if name in _MAY_NOT_APPLY:
        both = ~(np.isnan(first) | np.isnan(second))
        first, second = first[both], second[both]
    seed = derive_seed(seed, f"bootstrap/{name}")
    return paired_bootstrap(first[:, None], second[:, None], resamples, seed)


def _prompt_means(name: str, array: Floats) -> Floats:
    """Average within each prompt, (prompts,); over the samples to which a judgement applies."""
    counts = np.full(len(array), array.shape[1])
    if name in _MAY_NOT_APPLY:
        counts = (~np.isnan(array)).sum(axis=1)
        array = np.nan_to_num(array, nan=0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(array.sum(axis=1) / np.where(counts == 0, np.nan, counts))


def _mean(name: str, array: Floats) -> float:
    """Average over prompts; where a judgement may not apply, over those to which it does."""
    means = _prompt_means(name, array)
    if name in _MAY_NOT_APPLY:
        means = means[~np.isnan(means)]
    with np.errstate(invalid="ignore"):
        return float(means.mean()) if means.size else math.nan


def _evidence(
    judged: str,
    gains: dict[str, Interval],
    sft: dict[str, float],
    ppo: dict[str, float],
    matched: MatchedDistinct | None,
    prompts: int,
) -> Evidence:
    """Gather what the verdict looks at."""
    good = None
    if matched is not None:
        good = GoodDiversity(pair_difference=ppo["good_pair_difference"], matched=matched)
    return Evidence(
        judge=_JUDGES[judged],
        gain=gains[judged],
        prompts=prompts,
        finite=_must_be_finite(sft, ppo),
        length_sft=sft["length"],
        length_ppo=ppo["length"],
        eos_rate_sft=sft["eos_rate"],
        eos_rate_ppo=ppo["eos_rate"],
        distinct_2_sft=sft["distinct_2"],
        distinct_2_ppo=ppo["distinct_2"],
        good=good,
        score_gain=gains["score"],
        kl_to_reference=ppo["kl_to_reference"],
    )


def _must_be_finite(sft: dict[str, float], ppo: dict[str, float]) -> dict[str, float]:
    """Name the means that only a broken model or judge makes infinite or NaN."""
    return {
        f"{model}'s {name}": means[name]
        for model, means in (("SFT", sft), ("PPO", ppo))
        for name in ("score", "judge_score", "gold", "kl_to_reference")
        if name in means
    }
