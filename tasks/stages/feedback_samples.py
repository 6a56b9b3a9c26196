"""Samples for people: several completions of the SFT model to each of some prompts."""

from collections.abc import Mapping

from models.errors import DataError
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.config import FeedbackConfig
from models.rows import read_rows
from tasks.labelling.items import Item, write_items
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage, stage_task
from tasks.run.workspace import Workspace
from tasks.stages.feedback import SPARE, pick_prompts


@stage_task("feedback-samples")
def sample_for_people(
    config: FeedbackConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
) -> StageRef:
    """Publish the items that people compare: prompts, each with different completions.

    Completions that were cut at the limit are left out, for their text would pass for one that
    ends there.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.language.generation import complete  # imports torch

        rows = read_rows(work.inputs["prompts"] / "prompts_train.jsonl")
        known = [row["prompt"] for row in rows]
        count = min(len(known), round(config.prompts * SPARE))
        prompts = pick_prompts(known, max(1, count), pipeline.seed)
        sampled = work.learn(
            complete,
            model=work.inputs["sft"] / "model",
            prompts=[prompt for prompt in prompts for _ in range(config.completions)],
            sampling=sampling,
            seed=derive_seed(pipeline.seed, "feedback.people"),
            device=work.device,
        )
        items: dict[str, Item] = {}
        for at, prompt in enumerate(prompts):
            own = sampled[at * config.completions : (at + 1) * config.completions]
            item = Item.of(prompt, (one.text for one in own if one.finished))
            if item is not None:
                items.setdefault(item.key, item)
        kept = list(items.values())[: config.prompts]
        if not kept:
            raise DataError(
                f"none of {len(prompts)} prompts got two different completions that end by "
                "themselves; raise sampling.max_completion_tokens or sampling.temperature"
            )
        write_items(work.out, kept)
        completions = sum(len(item.completions) for item in kept)
        return {
            "feedback_samples/items": float(len(kept)),
            "feedback_samples/completions": float(completions),
            "feedback_samples/dropped": float(len(prompts) - len(items)),
        }

    spec = StageSpec(
        name="feedback-samples",
        module=__name__,
        parameters={
            "feedback": config.model_dump(mode="json", include={"prompts", "completions"}),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"sft": sft, "prompts": data},
    )
    return run_stage(spec, pipeline, learn)
