"""The body of every stage that evaluates: judges made, models evaluated, the record written."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from models.evaluation.measures import Bootstrap
from models.evaluation.result import SAMPLES, EvaluationResult
from models.language.config import SamplingConfig
from models.rows import write_rows
from models.statistics.intervals import Interval
from tasks.judging.config import EndpointConfig, EvaluateModelsConfig, EvaluationConfig
from tasks.judging.judges import make_judge
from tasks.run.stage import Workspace

if TYPE_CHECKING:
    from models.evaluation.evaluation import Decision, Evaluation

    Further: TypeAlias = Callable[[Evaluation], Mapping[str, Mapping[str, Interval]]]

JUDGE_ROLES = {"reward": "reward_model", "judge": "judge"}
"""Roles of the inputs that are judges."""


def judge_names(config: EvaluationConfig, *, gold: bool, held_out: bool) -> list[str]:
    """Name the judges of a decision: those that are there, and the one that is to decide."""
    names = ["reward", *(["judge"] if held_out else []), *(["gold"] if gold else [])]
    return names + [config.judge] * (config.judge in ("vader", "endpoint"))


def what_counts(config: EvaluationConfig) -> dict[str, Any]:
    """What a decision depends on: not how an endpoint is reached, only who answers what."""
    shown = config.model_dump(mode="json", exclude={"endpoint"})
    if config.judge == "endpoint":
        shown["endpoint"] = endpoint_identity(config.endpoint)
    return shown


def endpoint_identity(endpoint: EndpointConfig) -> dict[str, Any]:
    """What of an endpoint its answers depend on."""
    told = {"url", "model", "criteria", "prompts", "temperature", "max_tokens"}
    return endpoint.model_dump(mode="json", include=told)


def run_evaluation(
    work: Workspace,
    models: Mapping[str, Path],
    prompts: list[Any],
    judges: list[str],
    config: EvaluationConfig | EvaluateModelsConfig,
    sampling: SamplingConfig,
    *,
    seed: int,
    bootstrap_seed: int,
    reference: Path | None,
    reference_name: str = "",
    decision: "Decision | None" = None,
    further: "Further | None" = None,
) -> EvaluationResult:
    """Evaluate models and write the record into the workspace.

    Args:
        work: Where to run, and the judges' models.
        models: Model folders by name.
        prompts: What is asked.
        judges: Names of the judges.
        config: Samples, resamples, and how to reach the endpoint.
        sampling: Temperature and longest completion.
        seed: Of the draws.
        bootstrap_seed: Of the intervals.
        reference: Folder of the model to which the KL is measured.
        reference_name: What the record calls it.
        decision: What is to be decided, if anything.
        further: Gives more measures of each model.

    Raises:
        ModelError: Something is to be decided, and the two models read different tokens.
    """
    from models.evaluation.evaluation import evaluate, summarise  # imports torch
    from models.language.folders import refuse_other_tokenizer

    if decision is not None:
        refuse_other_tokenizer(
            models[decision.baseline], decision.baseline, models[decision.model], decision.model,
            "lengths, KL and diversity of others cannot be compared; compare models trained with "
            "one tokenizer, or register the model under another name, where it has no champion yet",
        )  # fmt: skip
    bootstrap = Bootstrap(resamples=config.bootstrap_resamples, seed=bootstrap_seed)
    evaluation = evaluate(
        models,
        prompts,
        {
            name: make_judge(
                name,
                prompts,
                reward_models={
                    judge: work.inputs[role] / "model"
                    for judge, role in JUDGE_ROLES.items()
                    if role in work.inputs
                },
                endpoint=config.endpoint,
                device=work.device,
                answers=work.checkpoints,
            )
            for name in judges
        },
        samples_per_prompt=config.samples_per_prompt,
        sampling=sampling,
        bootstrap=bootstrap,
        seed=seed,
        device=work.device,
        reference=reference,
        pairwise_prompts=config.endpoint.prompts,
        step=_Steps(work).step,
    )
    more = {} if further is None else further(evaluation)
    result = summarise(
        evaluation, bootstrap, reference=reference_name, decision=decision, further=more
    )
    result.write(work.out)
    write_rows(work.out / SAMPLES, evaluation.rows())
    return result


def ends(interval: Interval) -> list[tuple[str, float]]:
    """Suffix and value of a mean and its interval's ends."""
    return [("", interval.mean), ("_low", interval.low), ("_high", interval.high)]


class _Steps:
    """Tells the bar that a step is done, and how long it took."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        self.count = 0

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.count += 1
        self.work.log({f"time/{what}_seconds": time.monotonic() - started}, self.count)
