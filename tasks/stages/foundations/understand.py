"""Understanding: a pretrained model of any family is fine-tuned with a head on one task."""

from collections.abc import Mapping

from models.heads.config import HeadConfig
from tasks.reports.foundations.understanding import understanding_page
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import steps_to_learn
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings


@stage_task("understand")
def understand(
    config: HeadConfig, *, task: str, pipeline: PipelineRun, data: StageRef, base: StageRef
) -> StageRef:
    """Publish a classifier and what it predicts of the held-out rows.

    Args:
        task: Of the data: entailment, similarity, polarity or choice.
        base: A pretrained model, causal, BERT or BART; with `config.initial` random only its
            sizes and tokenizer are taken.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.heads.formats import read_task  # imports transformers
        from models.heads.training import learn_to_understand

        data = work.inputs[task]
        return work.learn(
            learn_to_understand,
            base=work.inputs["base"] / "model",
            learned=data / f"{task}_train.jsonl",
            heldout=data / f"{task}_heldout.jsonl",
            task=read_task(data, task),
            config=config,
            run=work.training_run(work.out, pipeline.seed),
        )

    spec = StageSpec(
        name="understand",
        module=__name__,
        parameters={"understand": config.model_dump(mode="json"), "task": task},
        inputs={"base": base, task: data},
        trains=True,
        total_steps=steps_to_learn(
            Store(load_settings().store).folder(data.stage, data.digest) / f"{task}_train.jsonl",
            epochs=config.epochs,
            batch_size=config.batch_size,
        ),
        view=understanding_page,
    )
    return run_stage(spec, pipeline, learn)
