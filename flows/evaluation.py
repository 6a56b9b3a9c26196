"""The flow that evaluates any models on any prompts, independent of the pipeline.

A model is stage/DIGEST, a registered model, a folder or a hub id; LABEL=NAME sets its name in the
report. The preset gives the sampling, and the prompts if no file does.
"""

from pathlib import Path
from typing import Literal

from prefect import flow

from flows.forms import StageForm
from flows.lifecycle import cancellable, name_run
from flows.names import label_models
from flows.planning.plan import perform
from tasks.catalogue import entry
from tasks.judging.config import EvaluateModelsConfig
from tasks.registry.origins import open_origin
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages.evaluate_models import evaluate_models
from tasks.stages.prepare import prepare
from tasks.stages.resolve import find_model


@flow(name="evaluate-models", flow_run_name=name_run, persist_result=False)
@cancellable
def evaluate_models_flow(
    models: list[str],
    run: StageForm,
    judging: EvaluateModelsConfig,
    prompts_file: str = "",
    reward: str = "",
    judge: str = "",
    reference: str = "",
) -> StageRef:
    """Evaluate models side by side: scores, KL, diversity, perplexity, and win rates by judge.

    Args:
        models: Each stage/DIGEST, a registered model, a folder or a hub id; LABEL=NAME sets its
            name in the report.
        run: Seed, and preset with the sampling and the prompts.
        judging: Number of prompts and samples, and judges.
        prompts_file: Your own prompts, in any format that data may have, with or without
            completions; empty = the preset's held-out prompts.
        reward: Reward model for judge `reward`; empty = the one that the models were trained with.
        judge: Held-out reward model for judge `judge`.
        reference: Reference model of the KL; empty = the one that the models were trained from, if
            it is the same for all.
    """
    p = run.to_parameters()
    labels = label_models(models)

    def stages(pipeline: PipelineRun) -> StageRef:
        found = {
            label: find_model(name, role="base", pipeline=pipeline)
            for label, name in labels.items()
        }
        refs = list(found.values())

        def given_or_common(
            name: str, role: Literal["base", "reward"], origin: str
        ) -> StageRef | None:
            if name:
                return find_model(name, role=role, pipeline=pipeline)
            return _common_origin(refs, origin)

        return evaluate_models(
            judging,
            p.sampling,
            pipeline=pipeline,
            models=found,
            data=None if prompts_file else prepare(p.data, pipeline=pipeline),
            prompts_file=Path(prompts_file) if prompts_file else None,
            reference=given_or_common(reference, "base", "reference"),
            reward=given_or_common(reward, "reward", "reward_model")
            if "reward" in judging.judges
            else None,
            judge=find_model(judge, role="judge", pipeline=pipeline)
            if judge and "judge" in judging.judges
            else None,
        )

    return perform(run, p, stages)


def _common_origin(models: list[StageRef], role: str) -> StageRef | None:
    """The input that all policies among the models have in common; None if they differ."""
    origins = {
        origin.digest: origin
        for origin in (
            open_origin(ref, role) for ref in models if entry(ref.stage).role == "policy"
        )
        if origin is not None
    }
    return next(iter(origins.values())) if len(origins) == 1 else None
