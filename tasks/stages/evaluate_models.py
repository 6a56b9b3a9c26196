"""Evaluate models: any set of them, on any prompts, under any judges; nothing is decided.

A run with the same models, prompts, judges and seed is reused like every stage, in whatever order
the models are named.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import DataError, ParameterError
from models.evaluation.result import EvaluationResult
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.rows import iterate_rows
from models.statistics.intervals import Interval
from tasks.judging.config import EvaluateModelsConfig
from tasks.judging.evaluation import identities, run_evaluation
from tasks.judging.prompts import (
    EvaluationPrompt,
    draw,
    prepared_demonstrations,
    prepared_prompts,
    read_prompt_file,
)
from tasks.reports.evaluation import metric_label, models_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

if TYPE_CHECKING:
    from models.evaluation.evaluation import Evaluation

MOST_PAIRED = 6
"""With more models, MLflow gets each one's mean win rate only; results.json has every pair."""


@stage_task("evaluate-models")
def evaluate_models(
    config: EvaluateModelsConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    models: Mapping[str, StageRef],
    data: StageRef | None = None,
    prompts_file: Path | None = None,
    reference: StageRef | None = None,
    reward: StageRef | None = None,
    judge: StageRef | None = None,
) -> StageRef:
    """Publish how models compare.

    Args:
        models: Published models by the name that the report gives them.
        prompts_file: The user's own prompts, in the place of prepared data.
        reference: The model to which the KL is measured.

    Raises:
        ParameterError: Names collide, a judge lacks its model, or not one source of prompts.
        DataError: There are no prompts, or a judge or measure cannot be applied to them.
    """
    _check(config, models, data, prompts_file, reward, judge)
    own = read_prompt_file(prompts_file) if prompts_file is not None else None
    named = dict(sorted(models.items()))
    roles = {f"model_{number}": name for number, name in enumerate(named, 1)}
    given = {"prompts": data, "reference": reference}
    given |= {"reward_model": reward if "reward" in config.judges else None}
    given |= {"judge": judge if "judge" in config.judges else None}

    def learn(work: Workspace) -> Mapping[str, float]:
        prompts = list(own.prompts) if own else prepared_prompts(work.inputs["prompts"])
        folders = {name: work.inputs[role] / "model" for role, name in roles.items()}
        return _evaluate(work, config, sampling, prompts, folders, pipeline)

    spec = StageSpec(
        name="evaluate-models",
        module=__name__,
        parameters={
            "evaluate_models": _what_counts(config) | {"models": ", ".join(named)},
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={role: named[name] for role, name in roles.items()}
        | {role: ref for role, ref in given.items() if ref is not None},
        external={} if own is None else {"prompts": own.digest},
        total_steps=len(models) + len(config.judges),
        view=models_page,
    )
    return run_stage(spec, pipeline, learn)


def _check(
    config: EvaluateModelsConfig, models: Mapping[str, StageRef], data: StageRef | None,
    prompts_file: Path | None, reward: StageRef | None, judge: StageRef | None,
) -> None:  # fmt: skip
    if not models or len({metric_label(name) for name in models}) < len(models):
        raise ParameterError(
            f"got the models {', '.join(models) or '(none)'}, wanted at least one, all of "
            "different names; name each model once"
        )
    if (data is None) == (prompts_file is None):
        raise ParameterError(
            "prompts come either from prepared data or from a file, got "
            f"{'neither' if data is None else 'both'}; give one of them"
        )
    for name, ref in (("reward", reward), ("judge", judge)):
        if name in config.judges and ref is None:
            raise ParameterError(
                f"judges name {name}, but no {name} model was given; name one, such as "
                f"{name}/3fa81c2b or models:/NAME@ALIAS, or leave {name} out of judges"
            )


def _what_counts(config: EvaluateModelsConfig) -> dict[str, Any]:
    """What the result depends on: not how an endpoint is reached, only who answers what."""
    shown = config.model_dump(mode="json", exclude={"endpoint", "people_prompts"})
    shown["judges"] = ", ".join(sorted(config.judges))
    return shown | identities(config, config.judges)


def _evaluate(
    work: Workspace, config: EvaluateModelsConfig, sampling: SamplingConfig,
    prompts: Sequence[EvaluationPrompt], models: Mapping[str, Path], pipeline: PipelineRun,
) -> dict[str, float]:  # fmt: skip
    seed = pipeline.seed
    asked = draw(prompts, config.prompts, derive_seed(seed, "evaluate-models.prompts"))
    _want_references(config, asked)
    folder = work.inputs.get("reference")
    reference = None if folder is None else folder / "model"
    result = run_evaluation(
        work, models, [one.prompt for one in asked], list(config.judges), config, sampling,
        pipeline=pipeline,
        seed=derive_seed(seed, "evaluate-models"),
        bootstrap_seed=derive_seed(seed, "evaluate-models.bootstrap"),
        reference=reference,
        reference_name=_reference_name(reference, models),
        further=lambda found: _further(work, config, prompts, asked, models, found),
    )  # fmt: skip
    return _metrics(result)


def _further(
    work: Workspace, config: EvaluateModelsConfig, prompts: Sequence[EvaluationPrompt],
    asked: Sequence[EvaluationPrompt], models: Mapping[str, Path], evaluation: "Evaluation",
) -> dict[str, dict[str, Interval]]:  # fmt: skip
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    if config.perplexity:
        from models.language.likelihood import measure_likelihood  # imports torch

        folder = work.inputs.get("prompts")
        given = prompts if folder is None else prepared_demonstrations(folder)
        rows = iterate_rows(folder / "corpus_heldout.jsonl") if folder is not None else ()
        texts = [row["text"] for row in islice(rows, config.perplexity_texts)]
        pairs = [(one.prompt, text) for one in given for text in one.references]
        for name, model in models.items():
            found[name] |= measure_likelihood(
                model,
                texts=texts,
                demonstrations=pairs[: config.perplexity_texts],
                device=work.device,
            )
    if config.references:
        from models.evaluation.texts import bleu, rouge

        for name, judged in evaluation.judged.items():
            completions = judged.samples.flat_texts()
            each = judged.samples.shape[1]
            references = [list(one.references) for one in asked for _ in range(each)]
            found[name] |= {"bleu": bleu(completions, references)}
            found[name] |= rouge(completions, references)
    return {
        model: {name: Interval(mean=value) for name, value in measures.items()}
        for model, measures in found.items()
    }


def _want_references(config: EvaluateModelsConfig, asked: Sequence[EvaluationPrompt]) -> None:
    lacking = sum(not one.references for one in asked)
    if config.references and lacking:
        raise DataError(
            f"BLEU and ROUGE need a completion with every prompt; {lacking} of {len(asked)} "
            "prompts have none; give a file of prompts with completions, or leave references off"
        )


def _reference_name(reference: Path | None, models: Mapping[str, Path]) -> str:
    if reference is None:
        return ""
    same = [name for name, folder in models.items() if folder.samefile(reference)]
    return same[0] if same else f"{reference.parts[-3]}/{reference.parts[-2][:8]}"


def _metrics(result: EvaluationResult) -> dict[str, float]:
    flat: dict[str, float] = {"evaluation/prompts": float(result.prompts)}
    for model, measured in result.measures.items():
        for name, interval in measured.items():
            flat |= _labelled(interval.metrics(name), metric_label(model))
    for judge, rates in result.win_rates.items():
        for model in rates.models:
            flat[f"{judge}_mean_win_rate/{metric_label(model)}"] = rates.mean_of(model)
        if len(rates.models) <= MOST_PAIRED:
            for row, column, interval in rates.pairs():
                label = f"{metric_label(row)} over {metric_label(column)}"
                flat |= _labelled(interval.metrics(f"{judge}_win_rate"), label)
    for judge, facts in result.facts.items():
        flat |= {f"{judge}_answers/{name}": value for name, value in facts.items()}
    return {name: value for name, value in flat.items() if math.isfinite(value)}


def _labelled(metrics: Mapping[str, float], label: str) -> dict[str, float]:
    return {f"{name}/{label}": value for name, value in metrics.items()}
