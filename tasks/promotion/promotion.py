"""Promotion: a challenger becomes the champion if every gate is open.

The comparison is a cached stage (`tasks/stages/challenge.py`); here aliases move, under a lock and
by a journal (`tasks/registry/aliases.py`). If the champion changed while the challenger was being
compared with it, the challenger is compared again, with the new one, so of two promotions at once
one wins and the other must beat the winner.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from models.display import one_line
from models.errors import ModelError
from models.evaluation.result import Outcome
from models.language.config import SamplingConfig
from tasks.judging.config import EvaluationConfig
from tasks.promotion.challenger import find_challenger
from tasks.promotion.contest import find_contest
from tasks.registry.aliases import (
    NOTE_CHARACTERS,
    PREVIOUS,
    Journal,
    changing_aliases,
    now,
    prefixed,
    read_aliases,
    user,
)
from tasks.registry.registration import finish_cards
from tasks.registry.versions import (
    CARD,
    CHAMPION,
    CHAMPION_AGAIN,
    PROMOTED,
    PROMOTION,
    ROLLBACK,
    UNFINISHED,
    ModelVersion,
    find_version,
    rolled_back,
    set_tags,
)
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


Ask: TypeAlias = Callable[[ModelVersion, StageRef, Sequence[str]], Answer]
"""Ask a person: the challenger, the comparison that it passed, and its cautions in sentences."""


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
        model: NAME of a policy for its best accepted version, models:/NAME@ALIAS or
            models:/NAME/NUMBER.
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
    challenger, _ = find_challenger(model)
    name = challenger.name
    if ask is None and (back := rolled_back(tracker, challenger)):
        raise ModelError(
            f"{challenger.uri} was champion and was rolled back "
            f"({back.tags.get(f'{ROLLBACK}.note') or 'no note'}), whatever the gates say; "
            "promote another version, or this one with approval, so that a person decides"
        )
    for _ in range(ROUNDS):
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
            answer = ask(challenger, evidence, outcome.cautions)
            note = one_line(answer.note, NOTE_CHARACTERS)
            tags |= {"by": one_line(answer.by), "note": note}
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
    """Say that there is nothing to do, and what a promotion that was cut off had still to say."""
    said = f"{version.uri} is the champion already: nothing to do"
    run_logger().info(said)
    previous = read_aliases(tracker, version.name).get(PREVIOUS, "")
    if UNFINISHED in champion.tags and champion.tags.get(PROMOTION) == PROMOTED:
        evidence = champion.tags.get(f"{PROMOTION}.evidence", "").rpartition("/")[2]
        reasons = [champion.tags.get(f"{PROMOTION}.reasons", "")]
        _emit("promoted", champion, previous, evidence, reasons)
    finish_cards(tracker, Store(load_settings().store), champion.name, champion.version)
    return Promotion(
        result="unchanged", name=version.name, champion=champion.version, previous=previous,
        reasons=[said],
    )  # fmt: skip


def _reject(
    tracker: Tracker, challenger: ModelVersion, champion: ModelVersion | None,
    evidence: StageRef, outcome: Outcome, tags: Mapping[str, str],
) -> Promotion:  # fmt: skip
    told = prefixed(PROMOTION, {**tags, "": "rejected"}) | {UNFINISHED: CARD}
    with tolerated(f"the rejection of {challenger.uri}"):
        set_tags(tracker, challenger, told)
    finish_cards(tracker, Store(load_settings().store), challenger.name, challenger.version)
    stays = "" if champion is None else champion.version
    return _ended("rejected", challenger, stays, stays, evidence, outcome)


def _crown(
    tracker: Tracker, challenger: ModelVersion, champion: ModelVersion | None,
    evidence: StageRef, outcome: Outcome, tags: Mapping[str, str],
) -> Promotion | None:  # fmt: skip
    """Move the aliases if the champion is still the one compared with; None if it is not."""
    name, new = challenger.name, challenger.version
    old = "" if champion is None else champion.version
    with changing_aliases(load_settings(), tracker, name) as change:
        if read_aliases(tracker, name).get(CHAMPION, "") != old:
            return None
        fresh = find_version(tracker, challenger.uri).tags
        if any(fresh.get(key) != challenger.tags.get(key) for key in (ROLLBACK, f"{ROLLBACK}.at")):
            raise ModelError(
                f"{challenger.uri} was rolled back while it was compared; promote another version, "
                "or this one with approval, so that a person decides"
            )
        change.tag(new, prefixed(PROMOTION, {"": "promoting", **tags}))
        sealed = {**prefixed(PROMOTION, {"": PROMOTED}), UNFINISHED: CARD}
        if ROLLBACK in challenger.tags:
            told = {"": CHAMPION_AGAIN, **{key: tags[key] for key in ("at", "by", "note")}}
            sealed |= prefixed(ROLLBACK, told)
        moved = {PREVIOUS: old, CHAMPION: new} if old else {CHAMPION: new}
        what = f"the promotion of version {new} by {tags['by']}"
        change.move(Journal(what=what, aliases=moved, tags={new: sealed}))
    promotion = _ended("promoted", challenger, new, old, evidence, outcome)
    finish_cards(tracker, Store(load_settings().store), name, new)
    return promotion


def _ended(
    result: Literal["promoted", "rejected"], challenger: ModelVersion, champion: str,
    previous: str, evidence: StageRef, outcome: Outcome,
) -> Promotion:  # fmt: skip
    run_logger().info("%s is %s: %s", challenger.uri, result, " ".join(outcome.reasons))
    _emit(result, challenger, previous, evidence.digest, outcome.reasons)
    return Promotion(
        result=result, name=challenger.name, champion=champion, previous=previous,
        reasons=outcome.reasons, evidence=evidence.digest, metrics=evidence.metrics,
    )  # fmt: skip


def _emit(
    result: str, version: ModelVersion, previous: str, evidence: str, reasons: list[str]
) -> None:
    payload: dict[str, Any] = {
        "name": version.name,
        "version": version.version,
        "uri": version.uri,
        "digest": version.tags.get("quartet.digest", ""),
        "previous": previous,
        "evidence": evidence,
        "reasons": reasons,
    }
    emit(f"quartet.model.{result}", f"quartet.model.{version.name}", payload)
