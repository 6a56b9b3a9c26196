"""In-context learning: a causal model answers a task by prompts, with and without examples."""

from collections.abc import Mapping

from models.benchmarks.config import InContextConfig
from models.randomness import derive_seed
from models.rows import write_rows
from tasks.reports.foundations.understanding import in_context_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("in-context")
def learn_by_prompts(
    config: InContextConfig, *, task: str, pipeline: PipelineRun, data: StageRef, base: StageRef
) -> StageRef:
    """Publish a model's answers to a task's held-out rows.

    Args:
        task: Of the data: entailment, polarity or choice.
        base: A causal language model; it learns nothing.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.benchmarks.in_context import learn_in_context  # imports torch

        found = work.learn(
            learn_in_context,
            base=work.inputs["base"] / "model",
            data=work.inputs[task],
            task=task,
            config=config,
            seed=derive_seed(pipeline.seed, "in-context"),
            device=work.device,
        )
        write_rows(
            work.out / "answers.jsonl",
            (
                {"shots": name, "label": row.label, "prediction": chosen, "logprobs": logprobs}
                for name, one in found.by_shots.items()
                for row, chosen, logprobs in zip(
                    found.questions.rows, one.answers.chosen, one.answers.logprobs, strict=True
                )
            ),
        )
        return found.metrics()

    spec = StageSpec(
        name="in-context",
        module=__name__,
        parameters={"in_context": config.model_dump(mode="json"), "task": task},
        inputs={"base": base, task: data},
        view=in_context_page,
    )
    return run_stage(spec, pipeline, learn)
