"""From preferences to a reward model of measured quality; shared by pipeline and reward flow.

Feedback, if the preset has an annotator; the reward model; the held-out reward model, if some
preferences are kept for it; and the measurement of both.
"""

from dataclasses import dataclass

from flows.feedback import ask_people
from flows.parameters import PipelineParameters
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages.feedback import collect_feedback
from tasks.stages.reward import train_judge, train_reward_model
from tasks.stages.reward_quality import measure_reward_quality


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPreferences:
    """The reward model, its measurement, the held-out one if any, and all in order.

    Attributes:
        preferences: The stage with the training pairs.
    """

    preferences: StageRef
    reward: StageRef
    quality: StageRef
    judge: StageRef | None
    stages: list[StageRef]


def learn_preferences(
    parameters: PipelineParameters, pipeline: PipelineRun, *, data: StageRef, sft: StageRef
) -> LearnedPreferences:
    """Train the reward model, and the held-out one if any, and measure them.

    The SFT model initialises both, and samples the completions to compare.
    """
    p = parameters
    stages: list[StageRef] = []
    preferences = data
    if p.feedback.annotator == "people":
        samples, preferences = ask_people(p, pipeline, data=data, sft=sft)
        stages += [samples, preferences]
    elif p.feedback.annotator != "none":
        preferences = collect_feedback(
            p.feedback,
            p.sampling,
            shuffle=p.data.world.shuffle_preferences,
            pipeline=pipeline,
            data=data,
            sft=sft,
        )
        stages.append(preferences)
    reward = train_reward_model(
        p.reward, p.sampling, pipeline=pipeline, data=data, preferences=preferences, sft=sft
    )
    judge = None
    if p.reward.judge_share:
        judge = train_judge(
            p.reward, p.sampling, pipeline=pipeline, data=data, preferences=preferences, sft=sft
        )
    quality = measure_reward_quality(
        p.reward_quality,
        p.sampling,
        gold=p.data.source == "world",
        pipeline=pipeline,
        data=data,
        sft=sft,
        reward=reward,
        judge=judge,
    )
    stages += [reward, *([judge] if judge else []), quality]
    return LearnedPreferences(
        preferences=preferences, reward=reward, quality=quality, judge=judge, stages=stages
    )
