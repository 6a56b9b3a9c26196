"""Samples for people: several completions of the SFT model to each of some prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import DataError
from models.language.config import SamplingConfig
from models.reward.config import FeedbackConfig
from models.rows import read_rows
from tasks.labelling.items import Item, write_items
from tasks.labelling.rounds import NO_ROUND, Earlier, LastRound
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.stages.feedback import CANDIDATES, SPARE, choose_disputed


@stage_task("feedback-samples")
def sample_for_people(
    config: FeedbackConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    last: LastRound = NO_ROUND,
) -> StageRef:
    """Publish the items that people compare: prompts, each with different completions.

    Completions that were cut at the limit are left out, for their text would pass for one that
    ends there.

    Args:
        sft: The model that samples: from the second round on, the newest policy.
        last: Of a loop.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.language.generation import complete  # imports torch

        folder = work.inputs["prompts"]
        known = [row["prompt"] for row in read_rows(folder / "prompts_train.jsonl")]
        before = Earlier.read(work.inputs.get("earlier"))
        count = round(config.prompts * SPARE) * (CANDIDATES if last.rivals else 1)
        prompts = before.pick(known, max(1, min(len(known), count)), pipeline.seed)
        sampled = work.learn(
            complete,
            model=work.inputs["sft"] / "model",
            prompts=[prompt for prompt in prompts for _ in range(config.completions)],
            sampling=sampling,
            seed=before.seed(pipeline.seed, "feedback.people"),
            device=work.device,
        )
        items = _items(prompts, [one.text if one.finished else None for one in sampled])
        places: Sequence[int] = range(len(items))
        if last.rivals:
            asked, said = [one.prompt for one in items], [one.completions for one in items]
            places = choose_disputed(work, asked, said, config.prompts)
        kept = [items[at] for at in places[: config.prompts]]
        if not kept:
            raise DataError(
                f"none of {len(prompts)} prompts got two different completions that end by "
                "themselves; raise sampling.max_completion_tokens or sampling.temperature"
            )
        write_items(work.out, kept)
        before.write_asked(work.out, (item.prompt for item in kept))
        counts = {
            "items": len(kept),
            "completions": sum(len(one.completions) for one in kept),
            "dropped": len(prompts) - len(items),
        }
        return {f"feedback_samples/{name}": float(count) for name, count in counts.items()}

    spec = StageSpec(
        name="feedback-samples",
        module=__name__,
        parameters={
            "feedback": config.model_dump(mode="json", include={"prompts", "completions"}),
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"sft": sft, "prompts": data} | last.inputs,
    )
    return run_stage(spec, pipeline, learn)


def _items(prompts: Sequence[Any], texts: Sequence[str | None]) -> list[Item]:
    """Different items of prompts, each with equally many texts, None for one that was cut."""
    each = len(texts) // len(prompts)
    made = (
        Item.of(prompt, (one for one in texts[at * each : (at + 1) * each] if one is not None))
        for at, prompt in enumerate(prompts)
    )
    return list({item.key: item for item in made if item is not None}.values())
