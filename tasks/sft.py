"""SFT: supervised fine-tuning of the base model on demonstrations."""

from collections.abc import Mapping

from models.configs.sft import SFTStageConfig
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.registry import register
from tasks.reporting import steps_to_learn
from tasks.settings import load_settings
from tasks.stage import Workspace, run_stage
from tasks.stage_task import stage_task
from tasks.store import StageRef, Store

__all__ = ["finetune"]


@stage_task("sft")
def finetune(
    config: SFTStageConfig, *, pipeline: PipelineRun, data: StageRef, base: StageRef
) -> StageRef:
    """Publish and register the SFT model."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.sft import finetune  # imports TRL: only where there is work to do

        return finetune(
            base=work.inputs["base"] / "model",
            demonstrations=work.inputs["demonstrations"] / "demonstrations_train.jsonl",
            heldout=work.inputs["demonstrations"] / "demonstrations_heldout.jsonl",
            out=work.out / "model",
            checkpoints=work.checkpoints,
            config=config,
            seed=pipeline.seed,
            device=work.device,
            log=work.log,
        )

    spec = StageSpec(
        name="sft",
        module=__name__,
        parameters={"sft": config.model_dump(mode="json")},
        inputs={"base": base, "demonstrations": data},
        trains=True,
        total_steps=steps_to_learn(
            Store(load_settings().store).folder(data.stage, data.digest)
            / "demonstrations_train.jsonl",
            epochs=config.epochs,
            batch_size=config.batch_size,
        ),
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, "sft", pipeline)
    return ref
