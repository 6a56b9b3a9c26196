"""Evaluate models: any set of them, on any prompts, under any judges; one table and win rates.

The evaluation of PPO (tasks/stages/evaluate.py) compares two models and gives a verdict; here any
number of models of any origin stand side by side, and nothing is decided. A run with the same
models, prompts, judges and seed is reused like every stage, in whatever order the models are named.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import ParameterError
from models.evaluation.config import EvaluateModelsConfig
from models.language.config import SamplingConfig
from models.rows import write_rows
from tasks.judging.prompts import read_prompt_file
from tasks.reports.evaluation import COLUMNS, Found, metric_label
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import NOTE_CHARACTERS, show_markdown
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings
from tasks.stages.model_evaluation import ModelEvaluation
from tasks.tracking.client import Tracker, tolerated


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
    """Publish how models compare, and put the report on the parent run's page.

    Args:
        config: Prompts, samples, judges.
        sampling: Temperature and longest completion.
        pipeline: The run.
        models: Published models by the name that the report gives them.
        data: Prepared datasets, whose held-out prompts are asked; or
        prompts_file: the user's own prompts.
        reference: The model to which the KL is measured.
        reward: A reward model, for the judge of that name.
        judge: A second one that training never saw, for the judge of that name.

    Raises:
        ParameterError: Names collide, a judge lacks its model, or not one source of prompts.
        DataError: There are no prompts, or a judge or measure cannot be applied to them.
    """
    _check(config, models, data, prompts_file, reward, judge)
    own = read_prompt_file(prompts_file) if prompts_file is not None else None
    named = dict(sorted(models.items()))
    roles = {f"model_{number}": name for number, name in enumerate(named, 1)}
    inputs = {role: named[name] for role, name in roles.items()}
    given = {"prompts": data, "reference": reference}
    given |= {"reward_model": reward if "reward" in config.judges else None}
    given |= {"judge": judge if "judge" in config.judges else None}

    def learn(work: Workspace) -> Mapping[str, float]:
        found = ModelEvaluation(work, config, sampling, roles, own, pipeline.seed).run()
        _write(work.out, found)
        return found.metrics()

    spec = StageSpec(
        name="evaluate-models",
        module=__name__,
        parameters={
            "evaluate_models": _what_counts(config) | {"models": ", ".join(named)},
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs=inputs | {role: ref for role, ref in given.items() if ref is not None},
        external={} if own is None else {"prompts": own.digest},
        total_steps=len(models) + len(config.judges),
    )
    ref = run_stage(spec, pipeline, learn)
    _show(ref, pipeline)
    return ref


def _check(
    config: EvaluateModelsConfig,
    models: Mapping[str, StageRef],
    data: StageRef | None,
    prompts_file: Path | None,
    reward: StageRef | None,
    judge: StageRef | None,
) -> None:
    """Refuse what no evaluation can be made of, before anything runs."""
    if not models or len({metric_label(name) for name in models}) < len(models):
        raise ParameterError(
            f"got the models {', '.join(models) or '(none)'}, wanted at least one, all of "
            "different names; name each model once"
        )
    if taken := sorted(set(models) & set(COLUMNS)):
        raise ParameterError(
            f"a model is called {taken[0]}, which is a column of its own in samples.jsonl; wanted "
            f"none of {', '.join(COLUMNS)}; put another label before it, such as mine=NAME"
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
    shown = config.model_dump(mode="json", exclude={"endpoint"})
    shown["judges"] = ", ".join(sorted(config.judges))
    if "endpoint" in config.judges:
        told = {"url", "model", "criteria", "prompts", "temperature", "max_tokens"}
        shown["endpoint"] = config.endpoint.model_dump(mode="json", include=told)
    return shown


def _write(out: Path, found: Found) -> None:
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    (out / "results.json").write_text(text + "\n", encoding="utf-8")
    (out / "report.md").write_text(found.to_markdown(), encoding="utf-8")
    write_rows(out / "samples.jsonl", found.sample_rows())


def _show(ref: StageRef, pipeline: PipelineRun) -> None:
    """Put the report on the Prefect run's page and on the MLflow parent's."""
    settings = load_settings()
    folder = Store(settings.store).folder(ref.stage, ref.digest)
    report = (folder / "report.md").read_text(encoding="utf-8")
    show_markdown("evaluate-models", report, "Models side by side, and who wins")
    with tolerated("the report on the models"):
        tracker = Tracker(settings)
        tracker.log_final(pipeline.run_id, ref.metrics)
        tracker.set_tags(pipeline.run_id, {"mlflow.note.content": report[:NOTE_CHARACTERS]})
