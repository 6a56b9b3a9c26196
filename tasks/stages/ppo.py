"""PPO: the actor learns from the reward model, held near the SFT model."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.language.config import SamplingConfig
from models.ppo.config import PPOConfig
from models.rows import read_rows
from tasks.registry.versions import register
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import emit, show_markdown, table_cell
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings

SHOWN_PROMPTS = 3
CELL = 200
"""Characters of a completion in the table of samples."""


@stage_task("ppo")
def align(
    config: PPOConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    reward: StageRef,
) -> StageRef:
    """Publish the aligned policy, its critic and samples of the watched prompts; register it."""

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.ppo.run import train_ppo  # imports torch: only where there is work to do

        corpus = work.inputs["prompts"] / "corpus_train.jsonl"
        return train_ppo(
            sft=work.inputs["actor"] / "model",
            reward=work.inputs["reward_model"] / "model",
            prompts=work.inputs["prompts"] / "prompts_train.jsonl",
            heldout_prompts=work.inputs["prompts"] / "prompts_heldout.jsonl",
            corpus=corpus if corpus.is_file() else None,
            config=config,
            sampling=sampling,
            run=work.training_run(work.out, pipeline.seed),
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
        trains=True,
    )
    ref = run_stage(spec, pipeline, learn)
    register(ref, "policy", pipeline)
    _show(ref, config)
    raised = raised_alarms(ref.metrics)
    if raised and not ref.reused:
        payload = {
            "alarms": raised,
            "stage": "ppo",
            "digest": ref.digest,
            "pipeline": pipeline.name,
        }
        emit("quartet.alarm", "quartet.stage.ppo", payload)
    return ref


def _show(ref: StageRef, config: PPOConfig) -> None:
    """Put alarms and samples on the run's page."""
    show_markdown("ppo-alarms", _report(ref.metrics, config), "Whether training stayed healthy")
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    samples = _sample_table(read_rows(folder / "samples.jsonl"))
    show_markdown("ppo-samples", samples, "The same prompts through the training")


def _sample_table(samples: Sequence[Mapping[str, Any]]) -> str:
    """What the actor said to a few prompts at the start, in the middle and at the end."""
    iterations = sorted({sample["iteration"] for sample in samples})
    if not iterations:
        return "There are no held-out prompts to watch."
    middle = min(iterations, key=lambda iteration: abs(2 * iteration - iterations[-1]))
    shown = sorted({iterations[0], middle, iterations[-1]})
    said = {(one["prompt"], one["iteration"]): one["completion"] for one in samples}
    prompts = list(dict.fromkeys(one["prompt"] for one in samples))[:SHOWN_PROMPTS]
    lines = [
        "| prompt | " + " | ".join(f"iteration {iteration}" for iteration in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    for prompt in prompts:
        texts = [prompt, *(said.get((prompt, iteration), "") for iteration in shown)]
        lines.append("| " + " | ".join(table_cell(text, CELL) for text in texts) + " |")
    return "\n".join(lines)


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
