"""Feedback: pairs of the SFT model's own completions, compared, and mixed with given preferences.

A reward model trained on ready-made pairs alone has never seen the faults of the model that PPO
will train, and PPO finds them. As in real RLHF, annotators label what the model says.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import ParameterError
from models.evaluation.samples import Annotator, Pair
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.config import FeedbackConfig
from models.rows import read_rows, write_json, write_rows
from tasks.judging.endpoint import EndpointJudge
from tasks.judging.evaluation import endpoint_identity
from tasks.labelling.pairs import as_content
from tasks.labelling.rounds import (
    FEEDBACK,
    FIRST,
    NO_ROUND,
    PREFERENCES,
    RIVALS,
    Earlier,
    LastRound,
)
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.world.annotator import SimulatedAnnotator

SPARE = 1.5
"""Pairs sampled for each one wanted, since some turn out equal or undecided."""
CANDIDATES = 4
"""Prompts sampled for each one asked about, where two reward models choose."""
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
    last: LastRound = NO_ROUND,
) -> StageRef:
    """Publish the training preferences: annotated and given ones at the stated share.

    Those of earlier rounds come first; each round adds as many annotated and given ones.

    Args:
        shuffle: Whether labels are random, as a control.
        sft: The model that samples: from the second round on, the newest policy.
        last: Of a loop.
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
        before = Earlier.read(work.inputs.get("earlier"))
        prompts, pairs = _sample_pairs(work, config, sampling, before, pipeline.seed)
        annotated, outcomes, facts = annotate(prompts, pairs, annotator, config.annotated)
        given = read_rows(folder / PREFERENCES)[before.given : before.given + config.given]
        _warn_of_too_few(config, len(annotated), len(given))
        about = {
            "wanted": {"annotated": config.annotated, "given": config.given},
            "annotator": annotator.describe() | facts,
        }
        before.write_asked(work.out, prompts)
        return write_preferences(work.out, annotated, given, outcomes, about, pipeline.seed, before)

    spec = StageSpec(
        name="feedback",
        module=__name__,
        parameters={
            "feedback": config.model_dump(mode="json", include=COUNTS) | {"shuffle": shuffle},
            "sampling": sampling.model_dump(mode="json"),
        }
        | ({"endpoint": endpoint_identity(config.endpoint)} if asks_endpoint else {}),
        inputs={"sft": sft, "prompts": data} | last.inputs,
    )
    return run_stage(spec, pipeline, learn)


def _sample_pairs(
    work: Workspace, config: FeedbackConfig, sampling: SamplingConfig, before: Earlier, seed: int
) -> tuple[list[Any], list[tuple[str, str] | None]]:
    """Sample what is annotated: prompts and two completions of each, None where one was cut."""
    from models.language.generation import complete  # imports torch

    wanted, disputed = round(config.annotated * SPARE), RIVALS[0] in work.inputs
    prompts = before.pick(
        [row["prompt"] for row in read_rows(work.inputs["prompts"] / "prompts_train.jsonl")],
        wanted * (CANDIDATES if disputed else 1),
        seed,
    )
    completions = work.learn(
        complete,
        model=work.inputs["sft"] / "model",
        prompts=[prompt for prompt in prompts for _ in range(2)],
        sampling=sampling,
        seed=before.seed(seed, "feedback"),
        device=work.device,
    )
    pairs = [
        (first.text, second.text) if first.finished and second.finished else None
        for first, second in zip(completions[::2], completions[1::2], strict=True)
    ]
    chosen = choose_disputed(work, prompts, pairs, wanted) if disputed else range(len(prompts))
    return [prompts[at] for at in chosen], [pairs[at] for at in chosen]


def choose_disputed(
    work: Workspace, prompts: Sequence[Any], completions: Sequence[Sequence[str] | None], count: int
) -> list[int]:
    """Choose the prompts whose completions both reward models disagree about most.

    Args:
        completions: Of each prompt; None, or all of one text, for one that cannot be asked about.

    Returns:
        At most `count` places, the most disputed first.
    """
    from models.reward.disagreement import measure_disagreement  # imports torch

    fit = [at for at, each in enumerate(completions) if each is not None and len(set(each)) > 1]
    found = work.learn(
        measure_disagreement,
        rewards=[work.inputs[role] / "model" for role in RIVALS],
        prompts=[prompts[at] for at in fit],
        completions=[completions[at] or () for at in fit],
        device=work.device,
    )
    disputed = sorted(zip(found, fit, strict=True), key=lambda one: (-one[0], one[1]))
    return [at for _, at in disputed[:count]]


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


def _with_equal_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every pair a margin and a mark of ties if one has it; 0 and no tie change nothing."""
    missing = {"margin": 0.0, "tie": False}
    wanted = [name for name in missing if any(name in row for row in rows)]
    return [row | {name: row.get(name, missing[name]) for name in wanted} for row in rows]


def write_preferences(
    out: Path, annotated: list[dict[str, Any]], given: list[dict[str, Any]],
    outcomes: Counter[str], about: Mapping[str, Any], seed: int, before: Earlier = FIRST,
) -> dict[str, float]:  # fmt: skip
    """Write the mixed preferences and the report on them, and return its numbers.

    Args:
        outcomes: Number of this round's pairs by what became of them.
        about: Who annotated what, for the report.
        before: Whose preferences are added.
    """
    rows = _with_equal_columns([*before.preferences, *annotated, *given])
    random.Random(derive_seed(seed, "feedback.mix")).shuffle(rows)
    write_rows(out / PREFERENCES, rows)
    labels = before.annotated + len(annotated)
    numbers = {
        "feedback/preferences": float(len(rows)),
        "feedback/annotated": float(labels),
        "feedback/given": float(before.given + len(given)),
        "feedback/annotated_share": labels / max(1, len(rows)),
        **{f"feedback/pairs_{name}": float(count) for name, count in sorted(outcomes.items())},
    }
    write_json(out / FEEDBACK, {**about, **numbers})
    return numbers
