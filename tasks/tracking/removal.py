"""What MLflow has no more: runs that somebody deleted, weights that were removed, since when."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tasks.tracking.client import PUBLISHED, Tracker
from tasks.tracking.lazy import entities
from tasks.tracking.queries import LOGGED, PINNED, WEIGHTS_REMOVED, every, named_digests, tagged

LOOKED_UP = 200
"""Runs of which one question can tell whether MLflow ever had them."""


def deleted_runs(tracker: Tracker) -> Iterator[Any]:
    """Runs of all experiments that somebody deleted."""
    return _whatever_became_of_them(tracker, "deleted_only", "")


def was_deleted(tracker: Tracker, digest: str) -> bool:
    """Whether somebody deleted a run that had published a digest."""
    where = tagged({"quartet.published": digest})
    return next(_whatever_became_of_them(tracker, "deleted_only", where), None) is not None


def runs_by_id(tracker: Tracker, run_ids: Sequence[str]) -> Iterator[Any]:
    """Those of some runs that MLflow has or had: deleted ones too."""
    for start in range(0, len(run_ids), LOOKED_UP):
        asked = ", ".join(f"'{one}'" for one in run_ids[start : start + LOOKED_UP])
        yield from _whatever_became_of_them(tracker, "all", f"attributes.run_id IN ({asked})")


def _whatever_became_of_them(tracker: Tracker, which: str, where: str) -> Iterator[Any]:
    every_one = entities.ViewType.from_string("all")
    found = every(tracker.client.search_experiments, view_type=every_one)
    return every(
        tracker.client.search_runs,
        experiment_ids=[one.experiment_id for one in found],
        filter_string=where,
        run_view_type=entities.ViewType.from_string(which),
        max_results=1000,
    )


def wanted_by_people(tracker: Tracker, experiments: Sequence[str]) -> set[str]:
    """Digests that have an alias, are pinned, or are named by a run that waits for people.

    A pinned or waiting run keeps the stages below it too.
    """
    pinned = f"tags.`{PINNED}` LIKE '%'"
    tags = [dict(one.tags) for one in tracker.versions(pinned)]
    for model in every(tracker.client.search_registered_models):
        for number in set(model.aliases.values()):
            tags.append(dict(tracker.client.get_model_version(model.name, str(number)).tags))
    waiting = "attributes.status = 'SCHEDULED'"  # for months, perhaps
    runs = (tracker.runs(where, experiments=experiments) for where in (pinned, waiting))
    for run in itertools.chain(*runs):
        below = tagged({"mlflow.parentRunId": str(run.info.run_id)})
        tags.append(dict(run.data.tags))
        tags += [dict(one.data.tags) for one in tracker.runs(below, experiments=experiments)]
    return {digest for one in tags for digest in named_digests(one)}


def in_words(tags: Mapping[str, str]) -> str:
    """What the tags of a run or a version say of its weights; empty if it has them."""
    date = tags.get(WEIGHTS_REMOVED, "")
    return f"weights removed on {date}" if date else ""


def weights_removed(tracker: Tracker, digest: str) -> str:
    """When the weights of a published digest were removed; empty if they were not."""
    where = f"{tagged({'quartet.published': digest})} and tags.`{WEIGHTS_REMOVED}` LIKE '%'"
    newest = next(tracker.runs(where, page=1), None)
    return "" if newest is None else str(newest.data.tags[WEIGHTS_REMOVED])


def logged_models(tracker: Tracker, digest: str) -> list[tuple[str, str, str]]:
    """Name, number and logged model of each version that has the weights of a digest."""
    found = tracker.versions(tagged({"quartet.digest": digest}))
    matched = [(one, LOGGED.fullmatch(str(one.source))) for one in found]
    return [
        (one.name, str(one.version), logged[1])
        for one, logged in matched
        if logged and WEIGHTS_REMOVED not in one.tags
    ]


def remove_weights(tracker: Tracker, digest: str, names: Collection[str], date: str) -> None:
    """Tag whoever has the weights of a digest, then delete them; to do it again does no harm.

    Args:
        names: Files and folders of what was published.
        date: Since when they are away.
    """
    files = tracker.client._tracking_client._get_artifact_repo  # the public client has no way
    for run_id in tracker.find_tagged({"quartet.digest": digest}):
        tracker.log(run_id, tags={WEIGHTS_REMOVED: date})
        if tracker.tags(run_id).get("quartet.published") == digest:
            for name in names:
                files(run_id).delete_artifacts(f"{PUBLISHED}/{name}")
    for name, number, logged in logged_models(tracker, digest):
        files(logged, resource="logged_model").delete_artifacts()
        tracker.client.set_model_version_tag(name, number, WEIGHTS_REMOVED, date)
