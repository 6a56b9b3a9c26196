"""Feedback: pairs of the SFT model's own completions, compared, and mixed with given preferences.

A reward model trained on ready-made pairs alone has never seen the faults of the model that PPO
will train, and PPO finds them. As in real RLHF, annotators label what the model says.
"""

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import DataError, ParameterError
from models.evaluation.samples import Annotator, Pair
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.config import FeedbackConfig
from models.rows import read_rows, write_json, write_rows
from tasks.judging.endpoint import EndpointJudge
from tasks.judging.evaluation import endpoint_identity
from tasks.labelling.pairs import as_content
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage, stage_task
from tasks.run.workspace import Workspace
from tasks.world.annotator import SimulatedAnnotator

SPARE = 1.5
"""Pairs sampled for each one wanted, since some turn out equal or undecided."""
COUNTS = {"annotator", "preferences", "annotated_share"}
"""The fields that shape the result; the others are for people."""


@stage_task("feedback")
def collect_feedback(
    config: FeedbackConfig,
    sampling: SamplingConfig,
    *,
    shuffle: bool,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
) -> StageRef:
    """Publish the training preferences: annotated and given ones at the stated share.

    Args:
        shuffle: Whether labels are random, as a control.
    """
    asks_endpoint = config.annotator == "endpoint"
    if asks_endpoint and shuffle:
        raise ParameterError(
            "data.world.shuffle_preferences is true, and feedback.annotator is endpoint; random "
            "labels are a control of the simulated annotator: set feedback.annotator=simulated"
        )

    def learn(work: Workspace) -> Mapping[str, float]:
        annotator: Annotator
        if asks_endpoint:
            annotator = EndpointJudge(config.endpoint, work.checkpoints / "endpoint-answers.jsonl")
        else:
            seed = derive_seed(pipeline.seed, "annotator")
            annotator = SimulatedAnnotator(seed=seed, shuffle=shuffle)
        folder = work.inputs["prompts"]
        prompts = pick_prompts(
            [row["prompt"] for row in read_rows(folder / "prompts_train.jsonl")],
            round(config.annotated * SPARE),
            pipeline.seed,
        )
        pairs = _sampled_pairs(work, prompts, sampling, derive_seed(pipeline.seed, "feedback"))
        annotated, outcomes, facts = annotate(prompts, pairs, annotator, config.annotated)
        given = read_rows(folder / "preferences_train.jsonl")[: config.given]
        _warn_of_too_few(config, len(annotated), len(given))
        about = {
            "wanted": {"annotated": config.annotated, "given": config.given},
            "annotator": annotator.describe() | facts,
        }
        return write_preferences(work.out, annotated, given, outcomes, about, pipeline.seed)

    spec = StageSpec(
        name="feedback",
        module=__name__,
        parameters={
            "feedback": config.model_dump(mode="json", include=COUNTS) | {"shuffle": shuffle},
            "sampling": sampling.model_dump(mode="json"),
        }
        | ({"endpoint": endpoint_identity(config.endpoint)} if asks_endpoint else {}),
        inputs={"sft": sft, "prompts": data},
    )
    return run_stage(spec, pipeline, learn)


def _sampled_pairs(
    work: Workspace, prompts: Sequence[Any], sampling: SamplingConfig, seed: int
) -> list[tuple[str, str] | None]:
    """Two completions of each prompt; None where one of them was cut at the limit."""
    from models.language.generation import complete  # imports torch

    completions = work.learn(
        complete,
        model=work.inputs["sft"] / "model",
        prompts=[prompt for prompt in prompts for _ in range(2)],
        sampling=sampling,
        seed=seed,
        device=work.device,
    )
    return [
        (first.text, second.text) if first.finished and second.finished else None
        for first, second in zip(completions[::2], completions[1::2], strict=True)
    ]


def _warn_of_too_few(config: FeedbackConfig, annotated: int, given: int) -> None:
    if annotated < config.annotated or given < config.given:
        run_logger().warning(
            "feedback got %d annotated and %d given preferences, wanted %d and %d; the mix has "
            "another share than was asked for: give more prompts or preferences, or lower "
            "feedback.preferences",
            annotated, given, config.annotated, config.given,
        )  # fmt: skip


def annotate(
    prompts: Sequence[Any],
    pairs: Sequence[tuple[str, str] | None],
    annotator: Annotator,
    wanted: int,
) -> tuple[list[dict[str, Any]], Counter[str], dict[str, float]]:
    """Have pairs of completions compared and keep `wanted` that were decided.

    Args:
        prompts: Strings, or messages, then completions become messages too.
        pairs: Two completions of each prompt; None where one of them was cut at the limit: its
            text would pass for one that ends there.

    Returns:
        At most `wanted` preference rows, the number of pairs by outcome, and what the annotator
        tells of itself.
    """
    outcomes: Counter[str] = Counter()
    asked: list[Pair] = []
    for prompt, pair in zip(prompts, pairs, strict=True):
        if pair is None:
            outcomes["unfinished"] += 1
        elif pair[0] == pair[1]:
            outcomes["equal"] += 1
        else:
            first, second = (as_content(prompt, completion) for completion in pair)
            asked.append(Pair(prompt=prompt, first=first, second=second))
    decided: list[dict[str, Any]] = []
    answers = annotator.compare(asked)
    for one, preference in zip(asked, answers.preference.tolist(), strict=True):
        row = one.to_row(preference)
        if row is None:
            outcomes["abstained"] += 1
        elif len(decided) < wanted:
            decided.append(row)
    outcomes["decided"] = len(decided)
    return decided, outcomes, dict(answers.facts)


def pick_prompts(prompts: list[Any], count: int, seed: int) -> list[Any]:
    """Pick prompts at random, some of them again where there are fewer.

    Raises:
        DataError: There are none.
    """
    if not prompts:
        raise DataError(
            "there are no training prompts to collect feedback on; give prompts, or set "
            "feedback.annotator=none"
        )
    order = list(range(len(prompts)))
    random.Random(derive_seed(seed, "feedback.prompts")).shuffle(order)
    return [prompts[index] for index in itertools.islice(itertools.cycle(order), count)]


def _with_equal_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every pair a margin and a mark of ties if one has it; 0 and no tie change nothing."""
    missing = {"margin": 0.0, "tie": False}
    wanted = [name for name in missing if any(name in row for row in rows)]
    return [row | {name: row.get(name, missing[name]) for name in wanted} for row in rows]


def write_preferences(
    out: Path, annotated: list[dict[str, Any]], given: list[dict[str, Any]],
    outcomes: Counter[str], about: Mapping[str, Any], seed: int,
) -> dict[str, float]:  # fmt: skip
    """Write the mixed preferences and the report on them, and return its numbers.

    Args:
        outcomes: Number of pairs by what became of them.
        about: Who annotated what, for the report.
    """
    rows = _with_equal_columns(annotated + given)
    random.Random(derive_seed(seed, "feedback.mix")).shuffle(rows)
    write_rows(out / "preferences_train.jsonl", rows)
    numbers = {
        "feedback/preferences": float(len(rows)),
        "feedback/annotated": float(len(annotated)),
        "feedback/given": float(len(given)),
        "feedback/annotated_share": len(annotated) / max(1, len(rows)),
        **{f"feedback/pairs_{name}": float(count) for name, count in sorted(outcomes.items())},
    }
    write_json(out / "feedback.json", {**about, **numbers})
    return numbers
