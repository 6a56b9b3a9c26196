"""What is known of the runs that are compared: from MLflow's runs and the store's files.

Runs that failed or were cancelled are taken as far as they got. A stage that a run found finished
has its curves in the run that made it.
"""

import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from models.errors import ParameterError
from models.rows import read_rows
from tasks.results.curves import read_history
from tasks.results.store import Store
from tasks.run.exchange import fetch_published
from tasks.tracking.client import Tracker, tolerated

Points: TypeAlias = list[tuple[int, float]]

CURVES = {
    "pretrain": ("pretrain/loss", "pretrain/heldout_loss"),
    "sft": ("sft/loss", "sft/heldout_loss"),
    "reward": ("reward/loss", "reward/train_accuracy"),
    "judge": ("judge/loss", "judge/train_accuracy"),
    "ppo": (
        "ppo/objective/score",
        "ppo/objective/gold",
        "ppo/objective/kl_to_reference",
        "ppo/objective/completion_tokens",
        "ppo/objective/entropy",
        "ppo/objective/distinct_2",
        "ppo/value/explained_variance",
    ),
}
"""Metrics of each stage whose curves are read."""

JUDGES = {
    "gold": "gold judge",
    "judge_score": "held-out reward model",
    "score": "reward model",
}
"""Who may judge, the most trusted first; each has its numbers under this name."""

FACTS = ("version.", "git.", "hardware.")
"""Tags that say with what a run ran."""

MOST = 7
"""Runs of one comparison: more colours cannot be told apart."""

SHORTEST = 6
"""Characters of an id that may stand for the whole."""

NEAR = 5
"""Names that an error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One pipeline run.

    Attributes:
        run_id: The MLflow parent run.
        name: Of the run.
        status: MLflow's word, such as FINISHED or FAILED.
        seconds: From its start to its end; NaN while it has none.
        parameters: Flat and dotted.
        facts: Versions and commit that it ran with.
        verdict: "accepted", "rejected", or empty without an evaluation.
        reasons: Of the verdict, in sentences.
        final: The evaluation's metrics without "final/".
        stages: Digest of each stage it came to.
        computed: How many of them it did not find finished.
        curves: (step, value) by metric.
        samples: Rows of the evaluation: prompt, completions, and what the judges say of them.
        judges: Identity of each judge: numbers of different ones stand on different scales.
        sft: Identity of the SFT model that it was evaluated against.
        notes: What a reader must know, such as that it was cut off.
    """

    run_id: str
    name: str
    status: str = "FINISHED"
    seconds: float = math.nan
    parameters: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    verdict: str = ""
    reasons: Sequence[str] = ()
    final: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    computed: int = 0
    curves: Mapping[str, Points] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    sft: str = ""
    notes: Sequence[str] = ()


def find_runs(tracker: Tracker, names: Sequence[str]) -> list[Any]:
    """Find pipeline runs by name, by id, or by the first six or more characters of it.

    Raises:
        ParameterError: Too few, too many or twice the same, or a name that no run or more than
            one goes by; the message lists what is near.
    """
    if not 2 <= len(names) <= MOST:
        raise ParameterError(
            f"got {len(names)} runs to compare, wanted 2 to {MOST}; name each by its name or id"
        )
    known = list(_pages(tracker, {"quartet.kind": "pipeline"}))
    found = [_find(name, known) for name in names]
    ids = [run.info.run_id for run in found]
    for name, run_id in zip(names, ids, strict=True):
        if ids.count(run_id) > 1:
            raise ParameterError(f"{name!r} is run {run_id[:8]}, which is named twice; name others")
    return found


def gather(tracker: Tracker, store: Store, parent: Any) -> RunRecord:
    """Collect all that is known of a pipeline run.

    Raises:
        StoreError: Its published evaluation is damaged.
    """
    run_id, tags = parent.info.run_id, dict(parent.data.tags)
    children: dict[str, Any] = {}
    for child in _pages(tracker, {"mlflow.parentRunId": run_id}):  # the newest first
        children.setdefault(child.data.tags.get("quartet.stage", ""), child)
    children = {stage: children[stage] for stage in reversed(children) if stage}
    curves: dict[str, Points] = {}
    for stage in children.keys() & CURVES.keys():
        curves |= _curves(tracker, store, stage, children[stage])
    final = {
        name.removeprefix("final/"): value
        for name, value in parent.data.metrics.items()
        if name.startswith("final/") and math.isfinite(value)
    }
    evaluated = children["evaluate"].data.tags if "evaluate" in children else {}
    folder = _evaluation(tracker, store, evaluated.get("quartet.digest", ""))
    return RunRecord(
        run_id=run_id,
        name=parent.info.run_name or run_id[:8],
        status=parent.info.status,
        seconds=_seconds(parent.info),
        parameters=dict(parent.data.params),
        facts={key: tags[key] for key in sorted(tags) if key.startswith(FACTS)},
        verdict=_verdict(tags, final),
        reasons=json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["reasons"]
        if folder
        else (),
        final=final,
        stages={stage: run.data.tags.get("quartet.digest", "") for stage, run in children.items()},
        computed=sum("quartet.reused" not in run.data.tags for run in children.values()),
        curves=curves,
        samples=read_rows(folder / "samples.jsonl") if folder else (),
        judges=_judges(evaluated, final),
        sft=evaluated.get("input.reference", ""),
        notes=_notes(parent.info.status, final, folder, list(children)),
    )


def _pages(tracker: Tracker, tags: Mapping[str, str]) -> Iterator[Any]:
    """All runs with these tags, the newest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    token = None
    while True:
        page = tracker.client.search_runs(
            [tracker.experiment_id],
            filter_string=wanted,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _find(name: str, known: Sequence[Any]) -> Any:
    named = [run for run in known if run.info.run_name == name]
    if not named and len(name) >= SHORTEST:
        named = [run for run in known if run.info.run_id.startswith(name)]
    if len(named) == 1:
        return named[0]
    if named:
        listed = ", ".join(_describe(run) for run in named[:NEAR])
        raise ParameterError(
            f"{name!r} names {len(named)} runs ({listed}); name one by the beginning of its id"
        )
    listed = ", ".join(_describe(run) for run in _near(name, known))
    raise ParameterError(
        f"no pipeline run is called {name!r}, by name or by the first {SHORTEST} or more "
        f"characters of its id; " + (f"near are {listed}" if listed else "there is none yet")
    )


def _near(name: str, known: Sequence[Any]) -> list[Any]:
    """The runs whose names or ids look most alike, or else the newest."""

    def likeness(run: Any) -> float:
        texts = (run.info.run_name or "", run.info.run_id[: max(len(name), SHORTEST)])
        return max(difflib.SequenceMatcher(None, name, text).ratio() for text in texts)

    return sorted(known, key=likeness, reverse=True)[:NEAR]


def _describe(run: Any) -> str:
    return f"{run.info.run_name} ({run.info.run_id[:8]})"


def _curves(tracker: Tracker, store: Store, stage: str, child: Any) -> dict[str, Points]:
    """A stage's curves, from the store's file or from the MLflow run that made them."""
    tags = child.data.tags
    curves = read_history(store.folder(stage, tags.get("quartet.digest", "")))
    if curves:
        return {name: curves[name] for name in CURVES[stage] if name in curves}
    with tolerated(f"the curves of {stage}"):
        maker = tags.get("quartet.made_by") or child.info.run_id
        for name in CURVES[stage]:
            points = tracker.client.get_metric_history(maker, name)
            curves[name] = sorted({one.step: one.value for one in points}.items())
    return {name: points for name, points in curves.items() if points}


def _evaluation(tracker: Tracker, store: Store, digest: str) -> Path | None:
    """The folder of a published evaluation, fetched if another machine made it."""
    if not digest:
        return None
    with store.lock("evaluate", digest, on_wait=lambda: None):
        manifest = store.find("evaluate", digest)
        manifest = manifest or fetch_published(store, tracker, "evaluate", digest)
    return store.folder("evaluate", digest) if manifest else None


def _judges(tags: Mapping[str, str], final: Mapping[str, float]) -> dict[str, str]:
    found = {"gold": "gold"} if "gold_ppo" in final else {}
    for name, role in (("judge_score", "judge"), ("score", "reward_model")):
        if tags.get(f"input.{role}"):
            found[name] = tags[f"input.{role}"]
    return found


def _verdict(tags: Mapping[str, str], final: Mapping[str, float]) -> str:
    if "accepted" not in final:
        return ""
    return tags.get("quartet.verdict") or ("accepted" if final["accepted"] else "rejected")


def _seconds(info: Any) -> float:
    return (info.end_time - info.start_time) / 1000 if info.end_time else math.nan


def _notes(
    status: str, final: Mapping[str, float], folder: Path | None, stages: Sequence[str]
) -> list[str]:
    notes = []
    if status != "FINISHED":
        notes.append(f"its status is {status.lower()}")
    if "accepted" not in final:
        reached = f"its last stage is {stages[-1]}" if stages else "it has no stage"
        notes.append(f"it was not evaluated ({reached}): compared as far as it got")
    elif folder is None:
        notes.append("its samples are neither in the store nor in MLflow: no win rates")
    return notes
