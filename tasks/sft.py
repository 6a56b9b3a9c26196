"""SFT: supervised fine-tuning of the base model on demonstrations."""

from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.configs.sft import SFTStageConfig
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.stage import Workspace, run_stage
from tasks.store import StageRef

__all__ = ["finetune"]


@task(name="sft", task_run_name="sft", cache_policy=NO_CACHE)
def finetune(
    config: SFTStageConfig, *, pipeline: PipelineRun, data: StageRef, base: StageRef
) -> StageRef:
    """Publish the SFT model."""

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
    )
    return run_stage(spec, pipeline, learn)
