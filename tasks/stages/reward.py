"""Reward: a reward model from the SFT model and pairwise preferences."""

from models.language.config import SamplingConfig
from models.reward.config import RewardStageConfig
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.stage_task import stage_task
from tasks.stages.preference_models import publish_preference_model


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
