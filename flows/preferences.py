"""From preferences to a reward model of measured quality; shared by all flows that train one.

Feedback, if the preset has an annotator; the reward model; the held-out reward model, if some
preferences are kept for it; and the measurement of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.feedback import ask_people
from flows.parameters import PipelineParameters
from tasks.labelling.rounds import LastRound
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
        samples: The stage with what people were asked, where people are.
    """

    preferences: StageRef
    samples: StageRef | None = None
    reward: StageRef
    quality: StageRef
    judge: StageRef | None
    stages: list[StageRef]


def learn_preferences(
    parameters: PipelineParameters,
    pipeline: PipelineRun,
    *,
    data: StageRef,
    sft: StageRef,
    newest: StageRef | None = None,
    before: Sequence[LearnedPreferences] = (),
) -> LearnedPreferences:
    """Train the reward model, and the held-out one if any, and measure them.

    Args:
        sft: Initialises both.
        newest: The policy that samples the completions to compare; None for the SFT model.
        before: What earlier rounds learned, the first one first; their labels count too.
    """
    p = parameters
    stages: list[StageRef] = []
    preferences, samples, sampler = data, None, newest or sft
    if p.feedback.annotator == "people":
        asked = [one.samples for one in before if one.samples is not None]
        samples, preferences = ask_people(
            p, pipeline, data=data, sft=sampler, before=asked, rivals=_rivals(p, before)
        )
        stages += [samples, preferences]
    elif p.feedback.annotator != "none":
        preferences = collect_feedback(
            p.feedback,
            p.sampling,
            shuffle=p.data.world.shuffle_preferences,
            pipeline=pipeline,
            data=data,
            sft=sampler,
            last=LastRound(
                earlier=before[-1].preferences if before else None, rivals=_rivals(p, before)
            ),
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
        preferences=preferences,
        samples=samples,
        reward=reward,
        quality=quality,
        judge=judge,
        stages=stages,
    )


def _rivals(
    p: PipelineParameters, before: Sequence[LearnedPreferences]
) -> tuple[StageRef, StageRef] | None:
    """The reward models that choose what is asked about next, where they do."""
    if p.feedback.choose == "random" or not before or before[-1].judge is None:
        return None
    return before[-1].reward, before[-1].judge
