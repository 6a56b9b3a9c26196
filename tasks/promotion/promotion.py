"""Promotion: a challenger becomes the champion if every gate is open, and rollback.

The comparison is a cached stage (`tasks/stages/challenge.py`); here aliases move, under a lock and
by a journal (`tasks/registry/aliases.py`). If the champion changed while the challenger was being
compared with it, the challenger is compared again, with the new one, so of two promotions at once
one wins and the other must beat the winner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from models.errors import ModelError
from models.evaluation.result import Outcome
from models.language.config import SamplingConfig
from tasks.judging.config import EvaluationConfig
from tasks.promotion.contest import find_contest
from tasks.registry.aliases import (
    CHAMPION,
    PREVIOUS,
    changing_aliases,
    move_aliases,
    now,
    read_aliases,
    repair_aliases,
    set_tags,
    user,
)
from tasks.registry.versions import PROMOTION, ModelVersion, find_version, renew_card
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import emit, run_logger
from tasks.run.spec import published_outcome
from tasks.settings import load_settings
from tasks.stages.challenge import Contest, judge_challenger
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated

ROUNDS = 3
"""How often a challenger is compared with yet another champion that came in between."""
TAG_CHARACTERS = 4000
ROLLBACK = "quartet.rollback"
ROLLED_BACK = "rolled back"

Result: TypeAlias = Literal["promoted", "rejected", "unchanged", "rolled back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A person's decision on a challenger that passed every gate."""

    go_on: bool
    by: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """How a promotion or a rollback ended.

    Attributes:
        name: Of the registered model.
        champion: Version that is champion now; empty where there is none.
        previous: Version that was champion before; empty where there was none.
        evidence: Digest of the comparison; empty without one.
    """

    result: Result
    name: str
    champion: str
    previous: str
    reasons: list[str]
    evidence: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


Ask: TypeAlias = Callable[[ModelVersion, StageRef], Answer]
"""Ask a person: the challenger, and the comparison that it passed."""


def promote(
    model: str,
    config: EvaluationConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    data: Callable[[], StageRef],
    judge_model: str = "",
    ask: Ask | None = None,
) -> Promotion:
    """Compare a challenger with the champion and, if every gate is open, make it the champion.

    Args:
        model: models:/NAME@ALIAS or models:/NAME/NUMBER of a policy.
        config: How both are measured, the bounds, who judges.
        data: Gives prepared datasets where those that the challenger learned from are not known.
        judge_model: The held-out judge by name; empty looks for the one beside the reward model.
        ask: Asks a person after the gates; nobody is asked without it.

    Raises:
        ModelError: The model cannot be had or compared, nobody can judge it, another promotion is
            under way, or MLflow fails.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    challenger = find_version(tracker, model)
    name = challenger.name
    if challenger.tags.get(ROLLBACK) == ROLLED_BACK and ask is None:
        raise ModelError(
            f"{challenger.uri} was champion and was rolled back "
            f"({challenger.tags.get(f'{ROLLBACK}.note') or 'no note'}), whatever the gates say; "
            "promote another version, or this one with approval, so that a person decides"
        )
    for _ in range(ROUNDS):
        repair_aliases(settings, tracker, name)
        champion = _champion(tracker, name)
        if champion is not None and challenger.is_same_model(champion):
            return _unchanged(tracker, challenger, champion)
        contest = find_contest(
            challenger, champion, config, pipeline=pipeline, data=data, judge_model=judge_model
        )
        evidence = judge_challenger(config, sampling, contest, pipeline=pipeline)
        outcome, _ = published_outcome(evidence)
        tags = _tags(pipeline, evidence, champion, contest, outcome)
        if outcome.accepted and ask is not None:
            answer = ask(challenger, evidence)
            tags |= {"by": answer.by, "note": answer.note}
            if not answer.go_on:
                said = f"{answer.by} refused it: {answer.note or 'no note'}"
                outcome = replace(outcome, accepted=False, reasons=[said])
                tags["reasons"] = said
        if not outcome.accepted:
            return _reject(tracker, challenger, champion, evidence, outcome, tags)
        crowned = _crown(tracker, challenger, champion, evidence, outcome, tags)
        if crowned is not None:
            return crowned
        run_logger().warning("the champion of %s changed meanwhile; comparing again", name)
    raise ModelError(
        f"the champion of {name} changed {ROUNDS} times while {challenger.uri} was compared with "
        "it; promote one challenger after the other"
    )


def rollback(name: str, *, note: str = "") -> Promotion:
    """Let champion and previous champion change places; the note is recorded with both versions.

    Raises:
        ModelError: There is no previous champion, or the aliases cannot be changed.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    name = name.removeprefix("models:/").partition("@")[0]
    read_aliases(tracker, name)
    with changing_aliases(settings, tracker, name):
        aliases = read_aliases(tracker, name)
        old, new = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        if old is None or new is None or old == new:
            raise ModelError(
                f"{name} has no previous champion to roll back to (champion: {old or 'none'}, "
                f"previous: {new or 'none'}); a second promotion leaves one, or set the alias "
                "champion on the model's page in MLflow"
            )
        move_aliases(tracker, name, {CHAMPION: new, PREVIOUS: old})
        told = {"at": now(), "by": user(), "note": note}
        for version, became in ((new, "champion again"), (old, ROLLED_BACK)):
            set_tags(tracker, name, version, ROLLBACK, {"": became, **told})
    reason = f"version {new} is champion again in the place of {old}: {note or 'no note'}"
    run_logger().info("%s: %s", name, reason)
    payload = {"name": name, "champion": new, "previous": old, "note": note}
    emit("quartet.model.rolled-back", f"quartet.model.{name}", payload)
    return Promotion(result="rolled back", name=name, champion=new, previous=old, reasons=[reason])


def _champion(tracker: Tracker, name: str) -> ModelVersion | None:
    version = read_aliases(tracker, name).get(CHAMPION)
    return None if version is None else find_version(tracker, f"models:/{name}/{version}")


def _tags(
    pipeline: PipelineRun, evidence: StageRef, champion: ModelVersion | None, contest: Contest,
    outcome: Outcome,
) -> dict[str, str]:  # fmt: skip
    opponent = f"{contest.opponent.stage}/{contest.opponent.digest}"
    return {
        "at": now(),
        "by": user(),
        "note": "",
        "run": pipeline.run_id,
        "evidence": f"{evidence.stage}/{evidence.digest}",
        "against": opponent if champion is None else champion.uri,
        "reasons": " ".join(outcome.reasons)[:TAG_CHARACTERS],
    }


def _unchanged(tracker: Tracker, version: ModelVersion, champion: ModelVersion) -> Promotion:
    """Say that there is nothing to do; a promotion that a crash cut off gets its last word."""
    if champion.tags.get(PROMOTION) == "promoting":
        set_tags(tracker, champion.name, champion.version, PROMOTION, {"": "promoted"})
        _renew_card(tracker, champion)
    said = f"{version.uri} is the champion already: nothing to do"
    run_logger().info(said)
    previous = read_aliases(tracker, version.name).get(PREVIOUS, "")
    return Promotion(
        result="unchanged", name=version.name, champion=champion.version, previous=previous,
        reasons=[said],
    )  # fmt: skip


def _reject(
    tracker: Tracker, challenger: ModelVersion, champion: ModelVersion | None,
    evidence: StageRef, outcome: Outcome, tags: Mapping[str, str],
) -> Promotion:  # fmt: skip
    with tolerated(f"the rejection of {challenger.uri}"):
        told = {"": "rejected", **tags}
        set_tags(tracker, challenger.name, challenger.version, PROMOTION, told)
    _renew_card(tracker, challenger)
    stays = "" if champion is None else champion.version
    return _tell("rejected", challenger, stays, stays, evidence, outcome)


def _crown(
    tracker: Tracker, challenger: ModelVersion, champion: ModelVersion | None,
    evidence: StageRef, outcome: Outcome, tags: Mapping[str, str],
) -> Promotion | None:  # fmt: skip
    """Move the aliases if the champion is still the one compared with; None if it is not."""
    name, new = challenger.name, challenger.version
    old = "" if champion is None else champion.version
    with changing_aliases(load_settings(), tracker, name):
        if read_aliases(tracker, name).get(CHAMPION, "") != old:
            return None
        set_tags(tracker, name, new, PROMOTION, {"": "promoting", **tags})
        moved = {PREVIOUS: old, CHAMPION: new} if old else {CHAMPION: new}
        move_aliases(tracker, name, moved)
        set_tags(tracker, name, new, PROMOTION, {"": "promoted"})
        if ROLLBACK in challenger.tags:
            set_tags(tracker, name, new, ROLLBACK, {"": "champion again"})
    _renew_card(tracker, challenger)
    return _tell("promoted", challenger, new, old, evidence, outcome)


def _tell(
    result: Literal["promoted", "rejected"], challenger: ModelVersion, champion: str,
    previous: str, evidence: StageRef, outcome: Outcome,
) -> Promotion:  # fmt: skip
    run_logger().info("%s is %s: %s", challenger.uri, result, " ".join(outcome.reasons))
    payload: dict[str, Any] = {
        "name": challenger.name,
        "version": challenger.version,
        "uri": challenger.uri,
        "digest": challenger.tags.get("quartet.digest", ""),
        "previous": previous,
        "evidence": evidence.digest,
        "reasons": outcome.reasons,
    }
    emit(f"quartet.model.{result}", f"quartet.model.{challenger.name}", payload)
    return Promotion(
        result=result, name=challenger.name, champion=champion, previous=previous,
        reasons=outcome.reasons, evidence=evidence.digest, metrics=evidence.metrics,
    )  # fmt: skip


def _renew_card(tracker: Tracker, version: ModelVersion) -> None:
    with tolerated(f"the model card of {version.uri}"):
        renew_card(tracker, Store(load_settings().store), find_version(tracker, version.uri))
