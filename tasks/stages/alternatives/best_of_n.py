"""Best-of-n: SFT on the completions that the reward model likes best, in PPO's place."""

from collections.abc import Mapping

from models.language.config import SamplingConfig
from models.training.config import BestOfNConfig, SFTStageConfig
from tasks.registry.registration import register
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("best-of-n")
def learn_best_of_n(
    config: BestOfNConfig,
    training: SFTStageConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    reward: StageRef,
) -> StageRef:
    """Publish the policy and what it learned from, `chosen.jsonl`; register it.

    Args:
        training: SFT's own parameters.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.reward.rejection import train_best_of_n  # imports TRL

        return work.learn(
            train_best_of_n,
            sft=work.inputs["reference"] / "model",
            reward=work.inputs["reward_model"] / "model",
            prompts=work.inputs["prompts"] / "prompts_train.jsonl",
            heldout=work.inputs["prompts"] / "demonstrations_heldout.jsonl",
            config=config,
            training=training,
            sampling=sampling,
            run=work.training_run(work.out, pipeline.seed),
        )

    spec = StageSpec(
        name="best-of-n",
        module=__name__,
        parameters={
            "best_of_n": config.model_dump(mode="json"),
            "sft": training.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"reference": sft, "reward_model": reward, "prompts": data},
        trains=True,
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, pipeline)
    return ref
