"""A published evaluation as the comparison of runs sees it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.measures import score_name
from models.evaluation.result import read_outcome, read_samples
from tasks.results.store import Store
from tasks.run.exchange import fetch_published
from tasks.tracking.client import Tracker

EVALUATE = "evaluate"

JUDGES = {
    "gold": "gold judge",
    "judge_score": "held-out reward model",
    "score": "reward model",
}
"""Possible judges, the most trusted first; their numbers carry these names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's text, and its score by each judge."""

    text: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt with both models' completions; `turn` counts repetitions of the prompt."""

    prompt: str
    turn: int
    sft: Completion
    ppo: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The verdict's reasons in sentences, and the samples."""

    reasons: Sequence[str]
    samples: Sequence[Sample]


def read_evaluation(tracker: Tracker, store: Store, digest: str) -> Evaluation | None:
    """Read an evaluation, fetched from MLflow if another machine made it; None if it is nowhere.

    Raises:
        StoreError: It is damaged.
    """
    if not digest:
        return None
    with store.lock(EVALUATE, digest, on_wait=lambda: None):
        if not (store.find(EVALUATE, digest) or fetch_published(store, tracker, EVALUATE, digest)):
            return None
    folder = store.folder(EVALUATE, digest)
    return Evaluation(
        reasons=read_outcome(folder).reasons, samples=to_samples(read_samples(folder))
    )


def to_samples(rows: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """Put the two models' first completions of each prompt side by side."""
    turns: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], dict[str, Completion]] = {}
    for row in rows:
        if row["sample"] == 0:
            model, prompt = row["model"], row["prompt"]
            scores = {score_name(judge): score for judge, score in row["scores"].items()}
            completion = Completion(text=row["completion"], scores=scores)
            found.setdefault((prompt, turns[model, prompt]), {})[model] = completion
            turns[model, prompt] += 1
    return [
        Sample(prompt=prompt, turn=turn, sft=models["sft"], ppo=models["ppo"])
        for (prompt, turn), models in found.items()
        if {"sft", "ppo"} <= models.keys()
    ]


def judge_identities(tags: Mapping[str, str], final: Mapping[str, float]) -> dict[str, str]:
    """Name the model behind each judge, from an evaluation's tags and final metrics."""
    found = {"gold": "gold"} if "gold_ppo" in final else {}
    for name, role in (("judge_score", "judge"), ("score", "reward_model")):
        if tags.get(f"input.{role}"):
            found[name] = tags[f"input.{role}"]
    return found
