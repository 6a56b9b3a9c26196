"""Reward and judge: reward models from the SFT model and pairwise preferences.

PPO's own reward model and the held-out one learn in the same way from the same SFT model. With a
share for the judge, each learns from prompts that the other never sees, in another order and from
another fresh head.
"""

import functools
from collections.abc import Mapping

from models.errors import ParameterError
from models.language.config import SamplingConfig
from models.preference_shares import PreferenceShare, Side
from models.randomness import derive_seed
from models.reward.config import RewardStageConfig
from tasks.registry.registration import register
from tasks.reports.reward import ranking_page
from tasks.results.cache import token_folder
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger, steps_to_learn
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings

TRAINING_ROWS = "preferences_train.jsonl"


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
    """Publish and register the reward model, trained on what the judge's share leaves.

    Its score moments are of samples of the SFT model.

    Args:
        sft: The SFT model, or a pretrained BERT or BART; see `models/reward/training.py`.
        preferences: The stage with the training pairs, `data` itself or feedback.

    Raises:
        DataError: There are too few pairs, in all or on one side of the judge's share.
    """
    return _train("reward", config, sampling, pipeline, data, preferences, sft)


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
    """Publish and register the held-out reward model, trained on the judge's share.

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
    return _train("judge", config, sampling, pipeline, data, preferences, sft)


def _train(
    name: Side, config: RewardStageConfig, sampling: SamplingConfig, pipeline: PipelineRun,
    data: StageRef, preferences: StageRef, sft: StageRef,
) -> StageRef:  # fmt: skip
    seed = pipeline.seed if name == "reward" else derive_seed(pipeline.seed, name)

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.reward.training import train_reward_model  # imports TRL

        contrasts = work.inputs["heldout"] / "contrasts.jsonl"
        metrics = work.learn(
            train_reward_model,
            sft=work.inputs["sft"] / "model",
            preferences=work.inputs["preferences"] / TRAINING_ROWS,
            heldout=work.inputs["heldout"] / "preferences_heldout.jsonl",
            prompts=work.inputs["heldout"] / "prompts_train.jsonl",
            contrasts=contrasts if contrasts.exists() else None,
            config=config,
            sampling=sampling,
            run=work.training_run(
                work.out / "model", seed, lambda found, step: work.log(_named(found, name), step)
            ),
            share=PreferenceShare(side=name, judge_share=config.judge_share, seed=pipeline.seed),
            cache=token_folder(
                work.cache, work.inputs["preferences"], TRAINING_ROWS, "models.reward.encoding"
            ),
        )
        return _named(metrics, name)

    spec = StageSpec(
        name=name,
        module=__name__,
        parameters={
            "reward": config.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"sft": sft, "preferences": preferences, "heldout": data},
        trains=True,
        total_steps=_steps(name, config, preferences),
        view=functools.partial(ranking_page, group=name),
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, pipeline)
    _warn_of_chance(ref, name)
    return ref


def _steps(name: Side, config: RewardStageConfig, preferences: StageRef) -> int:
    """Count optimiser steps, about: prompts differ in how many pairs they have."""
    folder = Store(load_settings().store).folder(preferences.stage, preferences.digest)
    share = config.judge_share if name == "judge" else 1.0 - config.judge_share
    return steps_to_learn(
        folder / TRAINING_ROWS,
        epochs=config.epochs * share,
        batch_size=config.batch_size,
        by_prompt=config.batch_element == "prompt",
    )


def _named(metrics: Mapping[str, float], name: Side) -> dict[str, float]:
    """Name metrics after the stage, `judge/accuracy`, so that two models never share a curve."""
    return {f"{name}/{one.removeprefix('reward/')}": value for one, value in metrics.items()}


def _warn_of_chance(ref: StageRef, name: Side) -> None:
    low = ref.metrics[f"{name}/accuracy_low"]
    if low <= 0.5:
        title, harm = "REWARD MODEL", "PPO would chase noise"
        if name == "judge":
            title, harm = "JUDGE", "its word on PPO would be noise"
        run_logger().warning(
            "THE %s LEARNED NOTHING THAT SHOWS: held-out pair accuracy %.3f, its 95%% "
            "interval starts at %.3f and does not clear 0.5; %s. Check the "
            "preferences' labels, add pairs, or train longer.",
            title, ref.metrics[f"{name}/accuracy"], low, harm,
        )  # fmt: skip
