"""What is known of the compared runs: from MLflow's runs and the store's files.

Runs that failed or were cancelled are taken as far as they got. A reused stage has its curves in
the run that made it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from models.evaluation.measures import score_name
from models.evaluation.result import read_outcome, read_samples
from tasks.catalogue import entry
from tasks.results.curves import read_history
from tasks.results.store import Store
from tasks.run.exchange import fetch_published
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import tagged
from tasks.tracking.removal import in_words

Points: TypeAlias = list[tuple[int, float]]

EVALUATE = "evaluate"

JUDGES = {
    "gold": "gold judge",
    "judge_score": "held-out reward model",
    "vader_score": "VADER sentiment judge",
    "score": "reward model",
}
"""Judges whose scores of two runs can be compared, the most trusted first; their numbers carry
these names."""

FACTS = ("version.", "git.", "hardware.")
"""Tags that name code, libraries and machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's text, its score by each judge, its tokens, and whether it ended by itself.

    Older evaluations do not tell the last two.
    """

    text: str
    scores: Mapping[str, float]
    tokens: float = math.nan
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt with both models' completions.

    Attributes:
        prompt: The text that is shown: of a conversation its last message.
        key: By which the same prompt is known in other runs.
        turn: Counts repetitions of the prompt.
    """

    prompt: str
    key: str
    turn: int
    sft: Completion
    ppo: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One pipeline run.

    Attributes:
        run_id: The MLflow parent run's.
        seconds: From start to end; NaN while it has no end.
        facts: Versions and commit that it ran with.
        verdict: "accepted", "rejected", or empty without an evaluation.
        decided_by: The judge that decided, as a sentence names it; empty where that is not known.
        final: The evaluation's metrics without "final/".
        stages: Digest of each stage that it reached.
        computed: Number of stages that it did not reuse.
        judges: Identity of each judge: scores of different models have different scales.
        sft: Identity of the SFT model that it was evaluated against.
        notes: What a reader must know, such as that it failed.
    """

    run_id: str
    name: str
    status: str = "FINISHED"
    seconds: float = math.nan
    parameters: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    verdict: str = ""
    decided_by: str = ""
    reasons: Sequence[str] = ()
    final: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    computed: int = 0
    curves: Mapping[str, Points] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    sft: str = ""
    notes: Sequence[str] = ()


def letter(index: int) -> str:
    """The short name of a run in tables and pictures: A, B, C …"""
    return chr(ord("A") + index)


def gather(tracker: Tracker, store: Store, parent: Any) -> RunRecord:
    """Collect all that is known of a pipeline run.

    Raises:
        StoreError: Its published evaluation is damaged.
    """
    info, tags = parent.info, dict(parent.data.tags)
    stages: dict[str, dict[str, str]] = {}  # the newest child of each stage: its tags
    final = _final(parent)
    for child in tracker.runs(tagged({"mlflow.parentRunId": info.run_id})):
        made = dict(child.data.tags)
        made["quartet.made_by"] = made.get("quartet.made_by") or child.info.run_id
        stage = made.get("quartet.stage", "")
        if stage == EVALUATE and stage not in stages:  # the parent has only a few of them
            final |= _final(child)
        stages.setdefault(stage, made)
    stages = {stage: stages[stage] for stage in reversed(stages) if stage}
    verdict = ""
    if "accepted" in final:
        verdict = tags.get("quartet.verdict") or ("accepted" if final["accepted"] else "rejected")
    evaluated = stages.get(EVALUATE, {})
    folder = _evaluation_folder(tracker, store, evaluated.get("quartet.digest", ""))
    outcome = read_outcome(folder) if folder else None
    return RunRecord(
        run_id=info.run_id,
        name=info.run_name or info.run_id[:8],
        status=info.status,
        seconds=(info.end_time - info.start_time) / 1000 if info.end_time else math.nan,
        parameters=dict(parent.data.params),
        facts={key: tags[key] for key in sorted(tags) if key.startswith(FACTS)},
        verdict=verdict,
        decided_by=outcome.judge if outcome else "",
        reasons=outcome.reasons if outcome else (),
        final=final,
        stages={stage: made.get("quartet.digest", "") for stage, made in stages.items()},
        computed=sum("quartet.reused" not in made for made in stages.values()),
        curves={
            name: points
            for stage in stages
            for name, points in _curves(tracker, store, stage, stages[stage]).items()
        },
        samples=to_samples(read_samples(folder)) if folder else (),
        judges=_judge_identities(evaluated, final),
        sft=evaluated.get("input.reference", ""),
        notes=_notes(info.status, bool(verdict), folder is not None, stages),
    )


def to_samples(rows: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """Put the two models' first completions of each prompt side by side."""
    turns: Counter[tuple[str, str]] = Counter()
    texts: dict[str, str] = {}
    found: dict[tuple[str, int], dict[str, Completion]] = {}
    for row in rows:
        if row["sample"] == 0:
            model, key = row["model"], row.get("conversation", row["prompt"])
            texts[key] = row["prompt"]
            scores = {score_name(judge): score for judge, score in row["scores"].items()}
            completion = Completion(
                text=row["completion"],
                scores=scores,
                tokens=row.get("tokens", math.nan),
                finished=row.get("finished", False),
            )
            found.setdefault((key, turns[model, key]), {})[model] = completion
            turns[model, key] += 1
    return [
        Sample(prompt=texts[key], key=key, turn=turn, sft=models["sft"], ppo=completion)
        for (key, turn), models in found.items()
        for model, completion in models.items()
        if "sft" in models and entry(model).role == "policy"
    ]


def _final(run: Any) -> dict[str, float]:
    return {
        name.removeprefix("final/"): value
        for name, value in run.data.metrics.items()
        if name.startswith("final/") and math.isfinite(value)
    }


def _curves(
    tracker: Tracker, store: Store, stage: str, tags: Mapping[str, str]
) -> dict[str, Points]:
    names = [curve.metric for curve in entry(stage).curves]
    curves = read_history(store.folder(stage, tags.get("quartet.digest", "")))
    if not curves:
        with tolerated(f"the curves of {stage}"):
            for name in names:
                curves[name] = tracker.curve(tags["quartet.made_by"], name)
    return {name: curves[name] for name in names if curves.get(name)}


def _notes(
    status: str, judged: bool, sampled: bool, stages: Mapping[str, Mapping[str, str]]
) -> list[str]:
    removed: dict[str, list[str]] = {}
    for stage, tags in stages.items():
        if words := in_words(tags):
            removed.setdefault(words, []).append(stage)
    notes = [f"{words} ({', '.join(those)})" for words, those in removed.items()]
    if status != "FINISHED":
        notes.append(f"its status is {status.lower()}")
    if not judged:
        reached = f"its last stage is {list(stages)[-1]}" if stages else "it has no stage"
        notes.append(f"it was not evaluated ({reached}): compared as far as it got")
    elif not sampled:
        notes.append("its samples are neither in the store nor in MLflow: no win rates")
    return notes


def _evaluation_folder(tracker: Tracker, store: Store, digest: str) -> Path | None:
    """An evaluation's folder, fetched from MLflow if another machine made it."""
    if not digest:
        return None
    with store.lock(EVALUATE, digest, on_wait=lambda: None):
        if not (store.find(EVALUATE, digest) or fetch_published(store, tracker, EVALUATE, digest)):
            return None
    return store.folder(EVALUATE, digest)


def _judge_identities(tags: Mapping[str, str], final: Mapping[str, float]) -> dict[str, str]:
    rules = {"gold": "gold_ppo", "vader_score": "vader_score_gain"}  # one for all runs
    found = {name: name for name, measure in rules.items() if measure in final}
    for name, role in (("judge_score", "judge"), ("score", "reward_model")):
        if tags.get(f"input.{role}"):
            found[name] = tags[f"input.{role}"]
    return found
