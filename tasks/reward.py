"""Reward: a reward model from the SFT model and pairwise preferences."""

from models.configs.reward import RewardStageConfig
from models.configs.sampling import SamplingConfig
from tasks.pipeline_run import PipelineRun
from tasks.preference_models import publish_preference_model
from tasks.stage_task import stage_task
from tasks.store import StageRef

__all__ = ["train_reward_model"]


@stage_task("reward")
def train_reward_model(
    config: RewardStageConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    preferences: StageRef,
    sft: StageRef,
) -> StageRef:
    """Publish and register the reward model, taught by what the judge's share leaves.

    Raises:
        DataError: There are too few pairs, in all or on one side of the judge's share.
    """
    return publish_preference_model(
        "reward",
        config,
        sampling,
        module=__name__,
        pipeline=pipeline,
        data=data,
        preferences=preferences,
        sft=sft,
    )
