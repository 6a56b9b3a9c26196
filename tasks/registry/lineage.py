"""What a model was made from: data, tokenizer, base, SFT, reward, policy, and what judged it.

There are two readers, one of the store's manifests and one of the tags of MLflow's runs. Both give
the same records, so either answers alone; where both are there, the store says what was made of
what, and MLflow says by which run and when. An ancestor that neither knows any more is shown as
unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from models.errors import StoreError
from tasks.catalogue import entry
from tasks.registry.versions import find_version, is_registered
from tasks.results.digests import DIGEST
from tasks.results.manifests import list_published
from tasks.results.store import MANIFEST, Store
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated

OUTSIDE_ROLES = ("files", "model", "questions")
"""Roles of what came from outside: the digest of files, or a model that was adopted."""

LEARNED_FROM = ("prompts", "reference", "base", "reward_model", "judge")
"""Roles under which an evaluation uses a stage without being about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One stage in a lineage.

    Attributes:
        stage: Empty if unknown.
        digest: Its identity, or what names an input from outside.
        inputs: Digest of each input by role.
        metrics: The key metrics of its stage.
        asked: Whether the lineage is that of this one.
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
    run_id: str = field(default="", compare=False)
    made: datetime | None = field(default=None, compare=False)
    stages: Mapping[str, str] = field(default_factory=dict, compare=False)


Records: TypeAlias = Mapping[str, Record]
"""Every record that a reader has, by digest."""


def _key_metrics(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    row = entry(stage)
    wanted = row.lineage or [one.metric for one in row.key_metrics]
    return {name: metrics[name] for name in wanted if name in metrics}


def read_store(store: Store) -> Records:
    """Read every manifest of a store; one that cannot be read counts as gone."""
    found = {}
    for folder, manifest in list_published(store.root):
        made = datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, tz=UTC)
        found[manifest.digest] = Record(
            stage=manifest.stage,
            digest=manifest.digest,
            inputs=dict(sorted(manifest.inputs.items())),
            metrics=_key_metrics(manifest.stage, manifest.metrics),
            run_id=manifest.run_id,
            made=made,
        )
    return found


def read_mlflow(tracker: Tracker) -> Records:
    """Read the tags and metrics of every run that published a stage, the newest run of each."""
    found: dict[str, Record] = {}
    for run in tracker.runs("tags.`quartet.published` LIKE '%'"):
        tags = run.data.tags
        digest = tags["quartet.published"]
        if digest in found:
            continue
        stage = tags.get("quartet.stage", "")
        inputs, stages = _tagged_inputs(tags)
        ended = run.info.end_time or run.info.start_time
        found[digest] = Record(
            stage=stage,
            digest=digest,
            inputs=inputs,
            metrics=_key_metrics(stage, run.data.metrics),
            run_id=run.info.run_id,
            made=datetime.fromtimestamp(ended / 1000, tz=UTC),
            stages=stages,
        )
    return found


def ancestry(settings: Settings, name: str) -> list[Record]:
    """Trace a model through the store and, as far as it answers, MLflow.

    Args:
        name: stage/digest or a digest, whole or its beginning; a registered model, by its name,
            models:/NAME@ALIAS or models:/NAME/NUMBER; a folder of the store.

    Returns:
        As `trace` does.

    Raises:
        ModelError: There is no such registered model, or MLflow does not give it.
        StoreError: Nothing or more than one stage goes by that name.
    """
    tracker, name = Tracker(settings), name.strip()
    registered = name.startswith("models:") or is_registered(name)
    version = find_version(tracker, name) if registered else None
    in_store = read_store(Store(settings.store))
    in_mlflow: Records = {}
    with tolerated("the look for runs"):
        if tracker.reachable():
            in_mlflow = read_mlflow(tracker)
    records = merge(in_store, in_mlflow)
    if version is None:
        return trace(records, _match(records, name))
    if version.published is None:
        raise StoreError(
            f"{version.uri} was not registered by Quartet, so nothing says what it was made from; "
            "choose a version whose tags name quartet.stage and quartet.digest"
        )
    stage, digest = version.published
    inputs, stages = _tagged_inputs(version.tags)
    run_id = version.tags.get("quartet.run", "")
    tagged = Record(stage=stage, digest=digest, inputs=inputs, stages=stages, run_id=run_id)
    return trace({digest: tagged, **records}, digest)


def merge(in_store: Records, in_mlflow: Records) -> Records:
    """Join both readers: the store's records, with the run and the date that MLflow has."""
    merged = {**in_mlflow, **in_store}
    for digest in in_mlflow.keys() & in_store.keys():
        there = in_mlflow[digest]
        merged[digest] = replace(
            in_store[digest], run_id=there.run_id, made=there.made, stages=there.stages
        )
    return merged


def trace(records: Records, digest: str) -> list[Record]:
    """List a stage, all that it was made from, and the evaluations of it.

    Returns:
        Records in the order of making: each after everything that it was made from.
    """
    depths: dict[str, int] = {}
    placed: dict[str, Record] = {}

    def place(one: Record) -> int:
        if one.digest not in depths:
            depths[one.digest] = 0  # ends the walk where a store was tampered with to make a ring
            placed[one.digest] = one
            below = [place(_input(records, one, role)) for role in sorted(one.inputs)]
            depths[one.digest] = 1 + max(below, default=-1)
        return depths[one.digest]

    place(replace(records[digest], asked=True))
    for record in sorted(records.values(), key=lambda record: record.digest):
        if any(_is_about(record, role) for role, at in record.inputs.items() if at == digest):
            place(record)
    return sorted(placed.values(), key=lambda one: (depths[one.digest], one.stage, one.digest))


def _input(records: Records, record: Record, role: str) -> Record:
    digest = record.inputs[role]
    if digest in records:
        return records[digest]
    stage = record.stages.get(digest, "")
    outside = not stage and (role in OUTSIDE_ROLES or not DIGEST.fullmatch(digest))
    return Record(stage=stage, digest=digest, state="outside" if outside else "unknown")


def _is_about(record: Record, role: str) -> bool:
    """Whether a stage judges the model that it uses under a role."""
    row = entry(record.stage)
    if not row.judges:
        return False
    return role == row.about if row.about else role not in LEARNED_FROM


def _match(records: Records, name: str) -> str:
    folder = Path(name).expanduser()
    for path in (folder / MANIFEST, folder.parent / MANIFEST):
        if path.is_file():  # a folder of the store, or the model in it
            name = path.resolve().parent.name
    stage, _, beginning = name.rpartition("/")
    found = [
        record.digest
        for record in records.values()
        if beginning and record.digest.startswith(beginning) and stage in ("", record.stage)
    ]
    if len(found) != 1:
        raise StoreError(
            f"{name!r} names {len(found)} published stages, wanted exactly one as stage/digest, "
            "such as ppo/3fa81c2b, or a registered model; MLflow's Models page and the tags "
            "quartet.digest of its runs show them"
        )
    return found[0]


def _tagged_inputs(tags: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
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
