"""PPO: the actor learns from the reward model, held near the SFT model."""

from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.configs.sampling import SamplingConfig
from models.ppo.config import PPOConfig
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.reporting import show_markdown
from tasks.stage import Workspace, run_stage
from tasks.store import StageRef

__all__ = ["align", "raised_alarms"]


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

        corpus = work.inputs["prompts"] / "corpus_train.jsonl"
        return train_ppo(
            sft=work.inputs["actor"] / "model",
            reward=work.inputs["reward_model"] / "model",
            prompts=work.inputs["prompts"] / "prompts_train.jsonl",
            heldout_prompts=work.inputs["prompts"] / "prompts_heldout.jsonl",
            corpus=corpus if corpus.is_file() else None,
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
    ref = run_stage(spec, pipeline, learn)
    show_markdown("ppo-alarms", _report(ref.metrics, config), "Whether training stayed healthy")
    return ref


def _report(metrics: Mapping[str, float], config: PPOConfig) -> str:
    """The alarms that were raised, as Markdown."""
    done = f"{metrics['ppo/iterations']:.0f} of {config.iterations} iterations"
    raised = raised_alarms(metrics)
    if not raised:
        return f"No alarm in {done}."
    lines = [f"PPO kept {done}.", "", "| alarm | iterations |", "|---|---:|"]
    lines += [f"| {name} | {count} |" for name, count in raised.items()]
    lines += [
        "",
        "Values, bounds and what to do: the stage's log, or `alarms.jsonl` in its folder.",
    ]
    return "\n".join(lines)


def raised_alarms(metrics: Mapping[str, float]) -> dict[str, int]:
    """In how many iterations each alarm was raised, from a PPO stage's final metrics."""
    prefix = "ppo/alarms/"
    return {
        name.removeprefix(prefix): int(count)
        for name, count in sorted(metrics.items())
        if name.startswith(prefix)
    }
