"""Judge: a second reward model, taught by preferences that PPO's own reward model never saw."""

from models.errors import ParameterError
from models.language.config import SamplingConfig
from models.reward.config import RewardStageConfig
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.stage_task import stage_task
from tasks.stages.preference_models import publish_preference_model


@stage_task("judge")
def train_judge(
    config: RewardStageConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    preferences: StageRef,
    sft: StageRef,
) -> StageRef:
    """Publish and register the held-out reward model, taught by the judge's share.

    Takes what the stage reward takes, and must be given the same: then no prompt teaches both.

    Raises:
        ParameterError: No share is the judge's.
        DataError: There are too few pairs on one side of the share.
    """
    if not config.judge_share:
        raise ParameterError(
            "reward.judge_share is 0, so there are no preferences to train a judge on; wanted a "
            "share up to 0.8: set reward.judge_share=0.3, say, or leave the judge out"
        )
    return publish_preference_model(
        "judge",
        config,
        sampling,
        module=__name__,
        pipeline=pipeline,
        data=data,
        preferences=preferences,
        sft=sft,
    )
