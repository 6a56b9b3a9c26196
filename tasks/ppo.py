"""PPO: the actor learns from the reward model, held near the SFT model."""

from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.configs.sampling import SamplingConfig
from models.ppo.config import PPOConfig
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.stage import Workspace, run_stage
from tasks.store import StageRef

__all__ = ["align"]


@task(name="ppo", task_run_name="ppo", cache_policy=NO_CACHE)
def align(
    config: PPOConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    reward: StageRef,
) -> StageRef:
    """Publish the aligned policy, its critic and samples of the watched prompts."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.ppo.run import train_ppo  # imports torch: only where there is work to do

        return train_ppo(
            sft=work.inputs["actor"] / "model",
            reward=work.inputs["reward_model"] / "model",
            prompts=work.inputs["prompts"] / "prompts_train.jsonl",
            heldout_prompts=work.inputs["prompts"] / "prompts_heldout.jsonl",
            out=work.out,
            checkpoints=work.checkpoints,
            config=config,
            sampling=sampling,
            seed=pipeline.seed,
            device=work.device,
            log=work.log,
        )

    spec = StageSpec(
        name="ppo",
        module=__name__,
        parameters={
            "ppo": config.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={
            "actor": sft,
            "reference": sft,
            "critic": reward,
            "reward_model": reward,
            "prompts": data,
        },
        total_steps=config.iterations,
    )
    return run_stage(spec, pipeline, learn)
