"""Records of published stages, read from the store's manifests or from the tags of MLflow's runs.

Both are asked by digest, so that an answer takes as long after years as on the first day.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from tasks.catalogue import entry
from tasks.results.digests import DIGEST
from tasks.results.manifests import find_manifest
from tasks.results.store import MANIFEST, Store
from tasks.tracking.client import Tracker
from tasks.tracking.queries import tagged
from tasks.tracking.removal import in_words

MANY = 100
"""Stages by one name that are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One stage in a lineage.

    Attributes:
        stage: Empty if unknown.
        digest: Its identity, or what names an input from outside.
        inputs: Digest of each input by role.
        metrics: The key metrics of its stage.
        asked: Whether the lineage is that of this one.
        removed: What MLflow says of its weights where they were removed: since when.
        run_id: MLflow run that made it; readers may differ after a backfill.
        made: When, in UTC; readers differ by the seconds between writing and recording.
        stages: Stage of some inputs by digest, as far as the reader knows.
    """

    stage: str
    digest: str
    state: Literal["published", "outside", "unknown"] = "published"
    inputs: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    asked: bool = False
    removed: str = field(default="", compare=False)
    run_id: str = field(default="", compare=False)
    made: datetime | None = field(default=None, compare=False)
    stages: Mapping[str, str] = field(default_factory=dict, compare=False)


class Reader(Protocol):
    """Where records come from; it is asked for one lineage, however many others there are."""

    def find(self, digest: str) -> Record | None:
        """The stage that published a digest."""

    def named(self, stage: str, beginning: str) -> set[str]:
        """Digests that begin like this, of one stage if it is named; a few of very many."""

    def judging(self, digest: str) -> set[str]:
        """Digests of the stages that judge a model; the newest of very many."""


class StoreReader:
    """Reads manifests; one that cannot be read counts as gone."""

    def __init__(self, store: Store) -> None:
        """Read from a store."""
        self._root = store.root

    def find(self, digest: str) -> Record | None:
        """Read the manifest of a digest."""
        manifest = find_manifest(self._root, digest)
        if manifest is None:
            return None
        path = self._root / manifest.stage / digest / MANIFEST
        return Record(
            stage=manifest.stage,
            digest=digest,
            inputs=dict(sorted(manifest.inputs.items())),
            metrics=_key_metrics(manifest.stage, manifest.metrics),
            run_id=manifest.run_id,
            made=datetime.fromtimestamp(path.stat().st_mtime, tz=UTC),
        )

    def named(self, stage: str, beginning: str) -> set[str]:
        """List the folders whose names begin like this."""
        folders = self._root.glob(f"{stage or '*'}/{beginning}*/{MANIFEST}")
        return {path.parent.name for path in folders if DIGEST.fullmatch(path.parent.name)}

    def judging(self, digest: str) -> set[str]:
        """Look for a digest in the manifests of stages that judge, without parsing them."""
        return {
            path.parent.name
            for stage in self._root.glob("*")
            if entry(stage.name).judges
            for path in stage.glob(f"*/{MANIFEST}")
            if digest in path.read_text(encoding="utf-8", errors="replace")
        }


class MlflowReader:
    """Reads the tags and metrics of runs that published a stage."""

    def __init__(self, tracker: Tracker) -> None:
        """Read from an MLflow that answers."""
        self._tracker = tracker
        self._found: dict[str, Record | None] = {}

    def find(self, digest: str) -> Record | None:
        """Ask for the newest run that published a digest, once."""
        if digest not in self._found:
            runs = self._published(f"= '{digest}'", page=1) if DIGEST.fullmatch(digest) else ()
            self._found[digest] = next(map(_of_run, runs), None)
        return self._found[digest]

    def named(self, stage: str, beginning: str) -> set[str]:
        """Ask for runs that published what begins like this."""
        of_stage = tagged({"quartet.stage": stage}) if stage else ""
        runs = self._published(f"LIKE '{beginning}%'", of_stage, page=MANY)
        return {_digest(run) for run in itertools.islice(runs, MANY)}

    def judging(self, digest: str) -> set[str]:
        """Ask for published runs whose tag says that they judge a model."""
        runs = self._published("LIKE '%'", f"tags.`quartet.judged` LIKE '%{digest}%'")
        return {_digest(run) for run in itertools.islice(runs, MANY)}

    def _published(self, which: str, also: str = "", *, page: int = MANY) -> Iterator[Any]:
        where = f"tags.`quartet.published` {which}"
        return self._tracker.runs(f"{where} and {also}" if also else where, page=page)


class Joined:
    """Several readers: the first says what was made of what, the last by which run and when."""

    def __init__(self, *readers: Reader) -> None:
        """Join readers, the most trusted first."""
        self._readers = readers

    def find(self, digest: str) -> Record | None:
        """The first reader's record, with what the last one knows of its run."""
        found = [one for reader in self._readers if (one := reader.find(digest)) is not None]
        if not found:
            return None
        last = found[-1]
        return replace(
            found[0], removed=last.removed, run_id=last.run_id, made=last.made, stages=last.stages
        )

    def named(self, stage: str, beginning: str) -> set[str]:
        """What any of them has."""
        return {one for reader in self._readers for one in reader.named(stage, beginning)}

    def judging(self, digest: str) -> set[str]:
        """What any of them has."""
        return {one for reader in self._readers for one in reader.judging(digest)}


def _key_metrics(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    row = entry(stage)
    wanted = row.lineage or [one.metric for one in row.key_metrics]
    return {name: metrics[name] for name in wanted if name in metrics}


def _digest(run: Any) -> str:
    return str(run.data.tags["quartet.published"])


def _of_run(run: Any) -> Record:
    tags = run.data.tags
    stage = tags.get("quartet.stage", "")
    inputs, stages = tagged_inputs(tags)
    ended = run.info.end_time or run.info.start_time
    return Record(
        stage=stage,
        digest=_digest(run),
        inputs=inputs,
        metrics=_key_metrics(stage, run.data.metrics),
        removed=in_words(tags),
        run_id=run.info.run_id,
        made=datetime.fromtimestamp(ended / 1000, tz=UTC),
        stages=stages,
    )


def tagged_inputs(tags: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Digest by role, and stage by digest, as the tags `input.<role>` say."""
    inputs, stages = {}, {}
    for key in sorted(tags):
        group, _, role = key.partition(".")
        if group != "input" or "." in role:
            continue
        stage, _, digest = tags[key].rpartition("/")
        if stage and DIGEST.fullmatch(digest):
            inputs[role], stages[digest] = digest, stage
        else:
            inputs[role] = tags[key]
    return inputs, stages
