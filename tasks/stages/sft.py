"""SFT: supervised fine-tuning of the base model on demonstrations."""

from collections.abc import Mapping

from models.training.config import SFTStageConfig
from tasks.registry.registration import register
from tasks.results.cache import token_folder
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import steps_to_learn
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings

TRAINING_ROWS = "demonstrations_train.jsonl"


@stage_task("sft")
def finetune(
    config: SFTStageConfig, *, pipeline: PipelineRun, data: StageRef, base: StageRef
) -> StageRef:
    """Publish and register the SFT model."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.training.sft import finetune  # imports TRL

        folder = work.inputs["demonstrations"]
        return work.learn(
            finetune,
            base=work.inputs["base"] / "model",
            demonstrations=folder / TRAINING_ROWS,
            heldout=folder / "demonstrations_heldout.jsonl",
            config=config,
            run=work.training_run(work.out / "model", pipeline.seed),
            cache=token_folder(work.cache, folder, TRAINING_ROWS, "models.training.sft"),
        )

    spec = StageSpec(
        name="sft",
        module=__name__,
        parameters={"sft": config.model_dump(mode="json")},
        inputs={"base": base, "demonstrations": data},
        trains=True,
        total_steps=steps_to_learn(
            Store(load_settings().store).folder(data.stage, data.digest) / TRAINING_ROWS,
            epochs=config.epochs,
            batch_size=config.batch_size,
        ),
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, pipeline)
    return ref
