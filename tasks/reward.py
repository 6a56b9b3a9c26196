"""Reward: a reward model from the SFT model and pairwise preferences."""

from collections.abc import Mapping

from models.configs.reward import RewardStageConfig
from models.configs.sampling import SamplingConfig
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.registry import register
from tasks.reporting import run_logger, show_markdown, steps_to_learn
from tasks.settings import load_settings
from tasks.stage import Workspace, run_stage
from tasks.stage_task import stage_task
from tasks.store import StageRef, Store

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
    """Publish and register the reward model; say loudly if it learned nothing."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.reward import train_reward_model  # imports TRL: only where there is work to do

        contrasts = work.inputs["heldout"] / "contrasts.jsonl"
        return train_reward_model(
            sft=work.inputs["sft"] / "model",
            preferences=work.inputs["preferences"] / "preferences_train.jsonl",
            heldout=work.inputs["heldout"] / "preferences_heldout.jsonl",
            prompts=work.inputs["heldout"] / "prompts_train.jsonl",
            contrasts=contrasts if contrasts.exists() else None,
            out=work.out / "model",
            checkpoints=work.checkpoints,
            config=config,
            sampling=sampling,
            seed=pipeline.seed,
            device=work.device,
            log=work.log,
        )

    spec = StageSpec(
        name="reward",
        module=__name__,
        parameters={
            "reward": config.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"sft": sft, "preferences": preferences, "heldout": data},
        trains=True,
        total_steps=steps_to_learn(
            Store(load_settings().store).folder(preferences.stage, preferences.digest)
            / "preferences_train.jsonl",
            epochs=config.epochs,
            batch_size=config.batch_size,
        ),
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, "reward", pipeline)
    show_markdown("reward-model", _report(ref.metrics), "How well it ranks held-out pairs")
    if ref.metrics["reward/accuracy_low"] <= 0.5:
        run_logger().warning(
            "THE REWARD MODEL LEARNED NOTHING THAT SHOWS: held-out pair accuracy %.3f, its 95%% "
            "interval starts at %.3f and does not clear 0.5; PPO would chase noise. Check the "
            "preferences' labels, add pairs, or train longer.",
            ref.metrics["reward/accuracy"],
            ref.metrics["reward/accuracy_low"],
        )
    return ref


def _report(metrics: Mapping[str, float]) -> str:
    """Accuracy beside its baseline, and by respect, as Markdown."""
    accuracy, low, high = (metrics[f"reward/accuracy{end}"] for end in ("", "_low", "_high"))
    lines = [
        "| held-out pairs | accuracy |",
        "|---|---:|",
        f"| all, [95% interval] | {accuracy:.3f} [{low:.3f}, {high:.3f}] |",
        f"| baseline: the longer one wins | {metrics['reward/longer_wins_accuracy']:.3f} |",
    ]
    prefix = "reward/accuracy_"
    for name, value in sorted(metrics.items()):
        respect = name.removeprefix(prefix)
        if name.startswith(prefix) and respect not in ("low", "high"):
            lines.append(f"| pairs that differ in one respect: {respect} | {value:.3f} |")
    return "\n".join(lines)
