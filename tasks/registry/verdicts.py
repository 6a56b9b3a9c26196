"""The verdict on a registered policy: its version's tags and description, and who is challenger.

A policy is registered when it is trained, as not evaluated yet. Its evaluation comes later, perhaps
several times, and the newest counts. The tag that names the evaluation is written last: while the
store has a newer one than that, whoever comes next (a run, a promotion, `quartet sync`) writes all
of it again, so a kill or an outage in between loses nothing.

The challenger is the best accepted policy that was not rolled back: the one whose judged gain over
its own SFT model, at equal length and ending, is surest by the lower end of its interval. Nobody
accepts or rejects models of other roles; of them it is the newest.
"""

import itertools
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from models.evaluation.result import read_outcome, sure_gain
from tasks.catalogue import CATALOGUE, entry
from tasks.registry.card import card_body, gather_facts, write_card
from tasks.registry.versions import (
    CARD,
    CHALLENGER,
    PROMOTION,
    ROLLBACK,
    ROLLED_BACK,
    UNFINISHED,
    VERDICT,
    ModelVersion,
    set_tags,
    version_of,
)
from tasks.results.manifests import list_published
from tasks.results.store import MANIFEST, Manifest, StageRef, Store
from tasks.run.planning import planning
from tasks.run.reporting import run_logger
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import LOGGED, tagged

ACCEPTED, GAIN_LOW, AT, SEAL = (
    f"{VERDICT}.{one}" for one in ("accepted", "gain_low", "at", "evaluation")
)
"""Tags: whether accepted, how surely, when, and the digest of the evaluation, written last."""

FEW = 50
"""Policies that are asked about one by one; for more, all versions are read."""

NO_POLICY = " and ".join(
    f"tags.`quartet.stage` != '{name}'" for name, row in CATALOGUE.items() if row.role == "policy"
)
"""Filter for versions that nobody accepts or rejects."""


def has_verdicts(version: ModelVersion) -> bool:
    """Whether models of its role are accepted or rejected."""
    return version.published is not None and entry(version.published[0]).role == "policy"


def best_version(tracker: Tracker, name: str) -> ModelVersion | None:
    """The version of a registered model that is challenger; None if none can be.

    MLflow is asked for accepted policies, and for the newest of what nobody accepts or rejects.
    """

    def fit(where: str, page: int = 1000) -> Iterator[ModelVersion]:
        found = map(version_of, tracker.versions(f"name = '{name}' and {where}", page=page))
        return (one for one in found if one.published not in (None, *back))

    back = [
        version_of(one).published
        for one in tracker.versions(f"name = '{name}' and {tagged({ROLLBACK: ROLLED_BACK})}")
    ]
    accepted = filter(has_verdicts, fit(tagged({ACCEPTED: "true"})))
    others = itertools.filterfalse(has_verdicts, fit(NO_POLICY, page=10))
    return max((*accepted, *itertools.islice(others, 1)), key=_rank, default=None)


def _rank(version: ModelVersion) -> tuple[float, int]:
    low = version.tags.get(GAIN_LOW, "") if has_verdicts(version) else "0"
    return float(low or "-inf"), int(version.version)


def record_verdict(policy: StageRef) -> None:
    """Let the versions of a policy tell of its newest evaluation, and the challenger follow.

    An MLflow that fails is no reason to fail here: `quartet sync` does it later.
    """
    if planning() is not None:
        return
    tracker = Tracker(load_settings())
    with tolerated("the verdict in the model registry"):
        tracker.require(patient=True)
        there = tracker.versions(tagged({"quartet.digest": policy.digest}))
        for name in sorted({one.name for one in there}):
            for sentence in settle(tracker, Store(load_settings().store), name, {policy.digest}):
                run_logger().info(sentence)


def settle(
    tracker: Tracker, store: Store, name: str, policies: Collection[str] | None = None
) -> list[str]:
    """Bring verdicts and challenger of one registered model up to date.

    Args:
        policies: Digests of those that may have a verdict to tell of; None for all.

    Returns:
        A sentence for each change.
    """
    messages = []
    evaluations = {
        manifest.inputs.get("policy", ""): folder
        for folder, manifest in list_published(store.root, "evaluate")
    }
    asked = None if policies is None or len(policies) > FEW else sorted(policies)
    for one in filter(has_verdicts, _versions(tracker, name, asked)):
        _, digest = one.published or ("", "")
        newest = evaluations.get(digest)
        if newest is not None and _is_news(one, newest):
            with tolerated(f"the verdict on {one.uri}"):
                messages.append(f"{one.uri}: {_record(tracker, store, one, newest)}")
    messages += point_challenger(tracker, name)
    return messages


def _versions(tracker: Tracker, name: str, digests: Sequence[str] | None) -> Iterator[ModelVersion]:
    """The versions of a registered model, of some digests if they are few."""
    where = [""] if digests is None else [tagged({"quartet.digest": one}) for one in digests]
    for one in where:
        asked = f"name = '{name}' and {one}" if one else f"name = '{name}'"
        yield from map(version_of, tracker.versions(asked))


def _is_news(version: ModelVersion, evaluation: Path) -> bool:
    """Whether an evaluation is another and no older one than the tags tell of."""
    other = version.tags.get(SEAL) != evaluation.name
    return other and version.tags.get(AT, "") <= _made(evaluation)


def _made(evaluation: Path) -> str:
    seconds = (evaluation / MANIFEST).stat().st_mtime
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _record(tracker: Tracker, store: Store, version: ModelVersion, evaluation: Path) -> str:
    """Write tags and card of a version; the verdict, in a line."""
    outcome = read_outcome(evaluation)
    tags = {
        VERDICT: outcome.headline,
        ACCEPTED: str(outcome.accepted).lower(),
        GAIN_LOW: f"{sure_gain(outcome.numbers):.6g}",
    }
    set_tags(tracker, version, tags)
    if not renew_card(tracker, store, version):
        set_tags(tracker, version, {UNFINISHED: CARD})
    set_tags(tracker, version, {AT: _made(evaluation), SEAL: evaluation.name})
    return outcome.headline


def point_challenger(tracker: Tracker, name: str) -> list[str]:
    """Point the alias at the best version, or at none; looks again, for others may come between.

    Returns:
        A sentence if it moved.
    """
    messages: list[str] = []
    while True:
        best = best_version(tracker, name)
        aliases = tracker.client.get_registered_model(name).aliases
        at = str(aliases.get(CHALLENGER, ""))
        if best is None:
            if at and has_verdicts(version_of(tracker.client.get_model_version(name, at))):
                tracker.client.delete_registered_model_alias(name, CHALLENGER)
                messages = [f"{name} has no challenger any more: no version is accepted"]
            return messages
        if at == best.version:
            return messages
        tracker.client.set_registered_model_alias(name, CHALLENGER, best.version)
        messages = [f"challenger of {name} is version {best.version}"]


def renew_card(tracker: Tracker, store: Store, version: ModelVersion) -> bool:
    """Write the model card of a version again, into its files and its description.

    A card that cannot be written is a warning: the model is as good without it.

    Returns:
        False if it could not be written.
    """
    logged = LOGGED.fullmatch(version.source)
    if version.published is None or logged is None:
        return True
    with tolerated(f"the model card of {version.uri}"), tempfile.TemporaryDirectory() as scratch:
        folder = store.folder(*version.published)
        facts = gather_facts(
            store,
            Manifest.read(folder),
            name=version.name,
            preset=version.tags.get("quartet.preset", ""),
            promotion=_below(PROMOTION, version.tags),
            rollback=_below(ROLLBACK, version.tags),
            line=version.tags.get(VERDICT, ""),
        )
        card = Path(scratch) / "README.md"
        card.write_text(write_card(facts), encoding="utf-8")
        tracker.client.log_model_artifact(logged[1], str(card))
        tracker.client.update_model_version(version.name, version.version, card_body(facts))
        return True
    return False


def _below(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags below a prefix, without it; the prefix itself is called `result`."""
    return {
        key.removeprefix(prefix).lstrip(".") or "result": value
        for key, value in tags.items()
        if key == prefix or key.startswith(f"{prefix}.")
    }
