"""What the stages reward and judge share: a reward model from one side of the preferences.

Both learn in the same way from the same SFT model. With a share for the judge, each side learns
from prompts that the other never sees, in another order and from another fresh head.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.config import RewardStageConfig
from models.reward.split import split_preferences
from models.rows import read_rows, write_rows
from tasks.registry.versions import register
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger, show_markdown, steps_to_learn
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.settings import load_settings

PreferenceRole: TypeAlias = Literal["reward", "judge"]

TRAINING_ROWS = "preferences_train.jsonl"


def publish_preference_model(
    role: PreferenceRole,
    config: RewardStageConfig,
    sampling: SamplingConfig,
    *,
    module: str,
    pipeline: PipelineRun,
    data: StageRef,
    preferences: StageRef,
    sft: StageRef,
) -> StageRef:
    """Publish and register the model of a role; say loudly if it learned nothing.

    Args:
        role: Names stage, registered model and metrics, and says which side of the split is its.
        config: How it learns, and how much of the preferences is the judge's.
        sampling: How the SFT model is sampled for the score moments.
        module: Of the stage, whose code counts for the digest.
        pipeline: The run.
        data: The prepared datasets, with the held-out pairs.
        preferences: The training pairs.
        sft: The model that it starts from.
    """
    seed = pipeline.seed if role == "reward" else derive_seed(pipeline.seed, role)

    def learn(work: Workspace) -> Mapping[str, float]:
        # It imports TRL: only where there is work to do.
        from models.reward.training import train_reward_model

        contrasts = work.inputs["heldout"] / "contrasts.jsonl"
        metrics = train_reward_model(
            sft=work.inputs["sft"] / "model",
            preferences=_rows_of(role, work, config.judge_share, pipeline.seed),
            heldout=work.inputs["heldout"] / "preferences_heldout.jsonl",
            prompts=work.inputs["heldout"] / "prompts_train.jsonl",
            contrasts=contrasts if contrasts.exists() else None,
            config=config,
            sampling=sampling,
            run=work.training_run(
                work.out / "model", seed, lambda found, step: work.log(_named(found, role), step)
            ),
        )
        return _named(metrics, role)

    spec = StageSpec(
        name=role,
        module=module,
        parameters={
            "reward": config.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"sft": sft, "preferences": preferences, "heldout": data},
        trains=True,
        total_steps=_steps(role, config, preferences),
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, role, pipeline)
    title = "How well it ranks held-out pairs"
    show_markdown(f"{role}-model", _report(ref.metrics, role), title)
    _warn_of_chance(ref, role)
    return ref


def _rows_of(role: PreferenceRole, work: Workspace, judge_share: float, seed: int) -> Path:
    """Give the file of the role's own pairs; all pairs are the reward model's without a judge."""
    given = work.inputs["preferences"] / TRAINING_ROWS
    if not judge_share:
        return given
    shares = split_preferences(read_rows(given), judge_share=judge_share, seed=seed)
    own = work.checkpoints / TRAINING_ROWS  # of use to this training only, so never published
    write_rows(own, shares.reward if role == "reward" else shares.judge)
    return own


def _steps(role: PreferenceRole, config: RewardStageConfig, preferences: StageRef) -> int:
    """Count optimiser steps, about: prompts differ in how many pairs they have."""
    folder = Store(load_settings().store).folder(preferences.stage, preferences.digest)
    share = config.judge_share if role == "judge" else 1.0 - config.judge_share
    return steps_to_learn(
        folder / TRAINING_ROWS, epochs=config.epochs * share, batch_size=config.batch_size
    )


def _named(metrics: Mapping[str, float], role: PreferenceRole) -> dict[str, float]:
    """Name metrics after the role, `judge/accuracy`, so that two models never share a curve."""
    return {f"{role}/{name.removeprefix('reward/')}": value for name, value in metrics.items()}


def _warn_of_chance(ref: StageRef, role: PreferenceRole) -> None:
    """Say loudly that the model is no better than a coin, and what that would lead to."""
    accuracy, low = ref.metrics[f"{role}/accuracy"], ref.metrics[f"{role}/accuracy_low"]
    if low <= 0.5:
        name, harm = (
            ("REWARD MODEL", "PPO would chase noise")
            if role == "reward"
            else ("JUDGE", "its word on PPO would be noise")
        )
        run_logger().warning(
            "THE %s LEARNED NOTHING THAT SHOWS: held-out pair accuracy %.3f, its 95%% "
            "interval starts at %.3f and does not clear 0.5; %s. Check the "
            "preferences' labels, add pairs, or train longer.",
            name,
            accuracy,
            low,
            harm,
        )


def _report(metrics: Mapping[str, float], role: PreferenceRole) -> str:
    """Accuracy beside its baseline, and by respect, as Markdown."""
    accuracy, low, high = (metrics[f"{role}/accuracy{end}"] for end in ("", "_low", "_high"))
    lines = [
        "| held-out pairs | accuracy |",
        "|---|---:|",
        f"| all, [95% interval] | {accuracy:.3f} [{low:.3f}, {high:.3f}] |",
        f"| baseline: the longer one wins | {metrics[f'{role}/longer_wins_accuracy']:.3f} |",
    ]
    prefix = f"{role}/accuracy_"
    for name, value in sorted(metrics.items()):
        respect = name.removeprefix(prefix)
        if name.startswith(prefix) and respect not in ("low", "high"):
            lines.append(f"| pairs that differ in one respect: {respect} | {value:.3f} |")
    return "\n".join(lines)
