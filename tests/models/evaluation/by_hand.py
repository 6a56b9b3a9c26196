"""Small sets of samples whose every number can be worked out by hand, and evaluations of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.evaluation.config import Bounds
from models.evaluation.evaluation import Decision, Evaluation, summarise
from models.evaluation.measures import Bootstrap, JudgedSamples
from models.evaluation.result import EvaluationResult
from models.evaluation.samples import Samples, Scores
from models.statistics.win_rates import win_rates_of_scores

BOOTSTRAP = Bootstrap(resamples=2000, seed=0)
SFT_IDS = [[[1, 2, 0], [3, 4, 0]], [[5, 6, 7], [8, 0]]]
PPO_IDS = [[[1, 2, 0], [1, 2, 0]], [[1, 2, 0], [8, 9, 0]]]

Rows = list[list[float]]


def make(
    ids: list[list[list[int]]], score: Rows, gold: Scores | None = None, judge: Rows | None = None
) -> JudgedSamples:
    """Samples whose texts spell their token ids; a 0 at the end is the EOS; KL is score / 2."""
    given = {"reward": Scores(score=np.array(score))}
    given |= {} if judge is None else {"judge": Scores(score=np.array(judge))}
    given |= {} if gold is None else {"gold": gold}
    samples = Samples(
        texts=[[" ".join(map(str, one)) for one in row] for row in ids],
        prompt_ids=[[9] for _ in ids],
        token_ids=ids,
        finished=np.array([[one[-1:] == [0] for one in row] for row in ids]),
        kl=np.array(score) / 2,
    )
    return JudgedSamples(samples=samples, scores=given)


def gold(score: Rows | None = None, good: Any = None, **aspects: Rows) -> Scores:
    """A gold judge that finds all four samples good, changed where told."""
    return Scores(
        score=np.ones((2, 2)) if score is None else np.array(score),
        aspects={name: np.array(one) for name, one in aspects.items()},
        good=np.ones((2, 2), bool) if good is None else np.array(good),
    )


def evaluation(sft: JudgedSamples, ppo: JudgedSamples) -> Evaluation:
    """Both models under the judges that they have."""
    judged = {"sft": sft, "ppo": ppo}
    rates = {
        judge: win_rates_of_scores(
            {model: one.scores[judge].score for model, one in judged.items()},
            {model: one.samples.extent for model, one in judged.items()},
            resamples=100,
            seed=0,
        )
        for judge in sft.scores
    }
    prompts = [f"prompt {index}" for index in range(sft.samples.shape[0])]
    return Evaluation(prompts=prompts, judged=judged, rates=rates, facts={})


def decided(
    sft: JudgedSamples,
    ppo: JudgedSamples,
    judge: str = "reward",
    *,
    alarms: Mapping[str, int] | None = None,
    **bounds: Any,
) -> EvaluationResult:
    """The record of the two, with a decision on `ppo`."""
    decision = Decision(
        baseline="sft", model="ppo", judge=judge, bounds=Bounds(**bounds), alarms=alarms or {}
    )
    return summarise(evaluation(sft, ppo), BOOTSTRAP, reference="sft", decision=decision)


def failed(result: EvaluationResult) -> list[str]:
    """Names of the failed checks but the two for which two prompts are always too few."""
    assert result.decided is not None
    names = [check.name for check in result.decided[1].checks if not check.passed]
    assert {"prompts", "controlled_gain"} <= set(names)
    return [name for name in names if name not in ("prompts", "controlled_gain")]


NAN = float("nan")


def compared(**bounds: Any) -> EvaluationResult:
    """SFT and PPO with a gold judge, two prompts with two samples each."""
    sft = gold([[0.0, 0.5], [1.0, 0.5]], refusal=[[NAN, NAN], [0.0, 1.0]])
    ppo = gold([[1.0, 0.5], [1.0, 1.0]], refusal=[[NAN, NAN], [1.0, 1.0]])
    bounds = bounds or {"min_matched_completions": 4, "min_matched_distinct_2_ratio": 0.5}
    return decided(*compared_samples(sft, ppo), "gold", **bounds)


def compared_samples(
    sft: Scores | None = None, ppo: Scores | None = None
) -> tuple[JudgedSamples, JudgedSamples]:
    """The samples of `compared`, with a gold judge where one is given."""
    return (
        make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]], sft),
        make(PPO_IDS, [[1.0, 1.0], [3.0, 4.0]], ppo),
    )
