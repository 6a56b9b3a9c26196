"""One evaluation: any models on the same prompts, under any judges, perhaps against a baseline.

The pipeline calls it with the SFT model and the policy, a promotion with champion and challenger,
`quartet evaluate` with anything. All models are sampled with the same random seeds, and scored by
reward models, in one go (`sampling`); other judges and the numbers follow here.
"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from models.evaluation.checks import Evidence, GoodDiversity, Sides, Verdict, decide
from models.evaluation.config import Bounds
from models.evaluation.measures import (
    Bootstrap,
    JudgedSamples,
    controlled_gains,
    gains,
    matched_diversity,
    measure,
    ratios,
    score_name,
)
from models.evaluation.result import Comparison, EvaluationResult
from models.evaluation.samples import Judge, Pair, PairwiseJudge, Preferences, Samples
from models.evaluation.sampling import SampledModels, Step
from models.rows import Content, last_text, prompt_digest
from models.statistics.intervals import Interval
from models.statistics.win_rates import WinRates, win_rates, win_rates_of_scores

OWN = "reward"
"""The judge that training maximised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be decided.

    Attributes:
        baseline: Name of the model to beat.
        model: Name of the model that is decided on.
        judge: Name of the judge whose gain decides.
        alarms: Iterations of the model's training with each alarm that was raised, by name.
    """

    baseline: str
    model: str
    judge: str
    bounds: Bounds
    alarms: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What was sampled and judged.

    Attributes:
        prompts: What was asked.
        judged: Samples and scores of each model.
        rates: Win rates among the models, by judge.
        facts: Of pairwise judges.
    """

    prompts: Sequence[Content]
    judged: Mapping[str, JudgedSamples]
    rates: Mapping[str, WinRates]
    facts: Mapping[str, Mapping[str, float]]

    def rows(self) -> list[dict[str, Any]]:
        """One row each completion, as samples.jsonl has them.

        Of a conversation the last message is shown; `conversation` tells which it is.
        """
        return [
            {
                "model": model,
                "prompt": last_text(prompt),
                **({} if isinstance(prompt, str) else {"conversation": prompt_digest(prompt)}),
                "sample": sample,
                "completion": one.samples.texts[index][sample],
                "scores": {
                    judge: float(given.score[index, sample]) for judge, given in one.scores.items()
                },
                "tokens": len(one.samples.token_ids[index][sample]),
                "finished": bool(one.samples.finished[index, sample]),
                "kl_to_reference": None
                if one.samples.kl is None
                else float(one.samples.kl[index, sample]),
            }
            for model, one in self.judged.items()
            for index, prompt in enumerate(self.prompts)
            for sample in range(one.samples.shape[1])
        ]


def evaluate(
    models: Mapping[str, Path],
    prompts: Sequence[Content],
    judges: Mapping[str, Judge | None],
    sampled: SampledModels,
    *,
    bootstrap: Bootstrap,
    pairwise_prompts: Mapping[str, int] = MappingProxyType({}),
    step: Step = lambda what: nullcontext(),
) -> Evaluation:
    """Have the samples of models judged.

    Args:
        models: Model folders by the name that the results give them.
        judges: By name; None for a reward model that has scored the samples.
        sampled: What the models said.
        pairwise_prompts: How many prompts each pairwise judge is asked about, the first ones; all
            where it is not named.
        step: Wraps each judge, for progress: `judge_<name>`.
    """
    samples = sampled.samples
    scores: dict[str, dict[str, Any]] = {name: {} for name in models}
    rates: dict[str, WinRates] = {}
    facts: dict[str, Mapping[str, float]] = {}
    for judge_name, judge in judges.items():
        with nullcontext() if judge is None else step(f"judge_{judge_name}"):
            if isinstance(judge, PairwiseJudge):
                asked = min(len(prompts), pairwise_prompts.get(judge_name, len(prompts)))
                rates[judge_name], facts[judge_name] = _compare(
                    judge, prompts[:asked], samples, bootstrap
                )
                continue
            for name, one in samples.items():
                scores[name][judge_name] = (
                    sampled.scores[judge_name][name]
                    if judge is None
                    else judge.score(prompts, one, models[name])
                )
            rates[judge_name] = win_rates_of_scores(
                {name: given[judge_name].score for name, given in scores.items()},
                {name: one.extent for name, one in samples.items()},
                resamples=bootstrap.resamples,
                seed=bootstrap.seed,
            )
    judged = {name: JudgedSamples(samples=samples[name], scores=scores[name]) for name in models}
    return Evaluation(prompts=prompts, judged=judged, rates=rates, facts=facts)


def summarise(
    evaluation: Evaluation,
    bootstrap: Bootstrap,
    *,
    reference: str = "",
    decision: Decision | None = None,
    further: Mapping[str, Mapping[str, Interval]] | None = None,
) -> EvaluationResult:
    """Turn samples and scores into the record.

    Args:
        reference: Name of the model to which the KL was measured.
        further: More measures of each model.

    Raises:
        DataError: The models to compare differ in what was measured on them.
    """
    further = further or {}
    measures = {
        name: measure(one, bootstrap) | dict(further.get(name, {}))
        for name, one in evaluation.judged.items()
    }
    comparisons = {}
    if decision is not None:
        comparisons[decision.model] = _decide(evaluation, measures, bootstrap, decision)
    first = next(iter(evaluation.judged.values())).samples
    return EvaluationResult(
        prompts=first.shape[0],
        samples_per_prompt=first.shape[1],
        measures=measures,
        win_rates=evaluation.rates,
        facts=evaluation.facts,
        reference=reference,
        baseline="" if decision is None else decision.baseline,
        comparisons=comparisons,
    )


def _decide(
    evaluation: Evaluation,
    measures: Mapping[str, Mapping[str, Interval]],
    bootstrap: Bootstrap,
    decision: Decision,
) -> Comparison:
    baseline, model = (evaluation.judged[one] for one in (decision.baseline, decision.model))
    first, second = measures[decision.baseline], measures[decision.model]
    matched = matched_diversity(baseline, model, decision.bounds.min_matched_completions)
    gained, controlled = gains(baseline, model, bootstrap), controlled_gains(baseline, model)
    gain, equal = _opinion(evaluation, gained, controlled, decision, decision.judge)
    rates = evaluation.rates[decision.judge]
    good = None
    if matched is not None:
        good = GoodDiversity(pair_difference=second["good_pair_difference"].mean, matched=matched)
    evidence = Evidence(
        judge=decision.judge,
        gain=gain,
        controlled=equal,
        prompts=model.samples.shape[0]
        if decision.judge in model.scores
        else max(rates.prompts.values()),
        finite=_must_be_finite(evaluation, measures, decision),
        length=_sides("length", first, second),
        eos_rate=_sides("eos_rate", first, second),
        distinct_2=_sides("distinct_2", first, second),
        good=good,
        score_gain=gained.get(score_name(OWN)),
        kl_to_reference=second["kl_to_reference"].mean if "kl_to_reference" in second else None,
        alarms=decision.alarms,
        others={
            judge: _opinion(evaluation, gained, controlled, decision, judge)[1]
            for judge in evaluation.rates
            if judge not in (OWN, decision.judge)
        },
    )
    verdict: Verdict = decide(evidence, decision.bounds)
    rate = rates.of(decision.model, decision.baseline)
    found = ratios(baseline, model, (first, second), matched) | {"win_rate": rate.mean}
    return Comparison(gains=gained, controlled=controlled, ratios=found, verdict=verdict)


def _opinion(
    evaluation: Evaluation,
    gained: Mapping[str, Interval],
    controlled: Mapping[str, Interval],
    decision: Decision,
    judge: str,
) -> tuple[Interval, Interval]:
    """A judge's gain, and the one at equal length and ending.

    Of one that compares pairs: how often it prefers the model, beyond one half.
    """
    name = score_name(judge)
    if name in gained:
        return gained[name], controlled[name]
    rates, pair = evaluation.rates[judge], (decision.model, decision.baseline)
    plain, equal = (
        Interval(mean=one.mean - 0.5, low=one.low - 0.5, high=one.high - 0.5)
        for one in (rates.of(*pair), rates.controlled_of(*pair))
    )
    return plain, equal


def _sides(name: str, baseline: Mapping[str, Interval], model: Mapping[str, Interval]) -> Sides:
    return Sides(baseline=baseline[name].mean, model=model[name].mean)


def _must_be_finite(
    evaluation: Evaluation, measures: Mapping[str, Mapping[str, Interval]], decision: Decision
) -> dict[str, float]:
    """Name the means that only a broken model or judge makes infinite or NaN."""
    names = [score_name(judge) for judge in evaluation.judged[decision.model].scores]
    return {
        f"{model}'s {name}": measures[model][name].mean
        for model in (decision.baseline, decision.model)
        for name in [*names, "kl_to_reference"]
        if name in measures[model]
    }


def _compare(
    judge: PairwiseJudge,
    prompts: Sequence[Content],
    samples: Mapping[str, Samples],
    bootstrap: Bootstrap,
) -> tuple[WinRates, Mapping[str, float]]:
    """Show a pairwise judge the first sample of each two models, all pairs in one go."""
    pairs = list(itertools.combinations(samples, 2))
    given: Preferences = judge.compare(
        [
            Pair(
                prompt=prompt,
                first=samples[row].texts[index][0],
                second=samples[column].texts[index][0],
            )
            for row, column in pairs
            for index, prompt in enumerate(prompts)
        ]
    )
    preferences = dict(
        zip(pairs, np.reshape(given.preference, (len(pairs), len(prompts))), strict=True)
    )
    rates = win_rates(
        list(samples),
        preferences,
        {name: one.extent.of_first_samples(len(prompts)) for name, one in samples.items()},
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    )
    return rates, given.facts
