"""What a model was made from: data, tokenizer, base, SFT, reward, policy, and what judged it.

There are two readers, one of the store's manifests and one of the tags of MLflow's runs. Both give
the same records, so either answers alone; where both are there, the store says what was made of
what, and MLflow says by which run and when. An ancestor that neither knows any more is shown as
unknown.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

from models.errors import StoreError
from tasks.catalogue import entry
from tasks.registry.records import (
    MANY,
    Joined,
    MlflowReader,
    Reader,
    Record,
    StoreReader,
    tagged_inputs,
)
from tasks.registry.versions import ModelVersion, find_version, is_registered
from tasks.results.digests import DIGEST
from tasks.results.store import MANIFEST, Store
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated

OUTSIDE_ROLES = ("files", "model", "questions")
"""Roles of what came from outside: the digest of files, or a model that was adopted."""

BEGINNING, STAGE = re.compile("[0-9a-f]+"), re.compile(r"[\w-]+")
"""What a digest and a stage are written with."""


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
    in_store = StoreReader(Store(settings.store))
    with tolerated("the look for runs"):
        if tracker.reachable():
            return _ancestry(Joined(in_store, MlflowReader(tracker)), name, version)
    return _ancestry(in_store, name, version)


def _ancestry(reader: Reader, name: str, version: ModelVersion | None) -> list[Record]:
    if version is None:
        return trace(reader, _match(reader, name))
    if version.published is None:
        raise StoreError(
            f"{version.uri} was not registered by Quartet, so nothing says what it was made from; "
            "choose a version whose tags name quartet.stage and quartet.digest"
        )
    stage, digest = version.published
    inputs, stages = tagged_inputs(version.tags)
    run_id = version.tags.get("quartet.run", "")
    known = Record(stage=stage, digest=digest, inputs=inputs, stages=stages, run_id=run_id)
    return trace(reader, digest, known=known)


def trace(reader: Reader, digest: str, *, known: Record | None = None) -> list[Record]:
    """List a stage, all that it was made from, and the evaluations of it.

    Args:
        known: What is known of it where the reader has it no more.

    Returns:
        Records in the order of making: each after everything that it was made from.

    Raises:
        StoreError: Nobody knows it.
    """
    depths: dict[str, int] = {}
    placed: dict[str, Record] = {}

    def place(one: Record) -> int:
        if one.digest not in depths:
            depths[one.digest] = 0  # ends the walk where a store was tampered with to make a ring
            placed[one.digest] = one
            below = [place(_input(reader, one, role)) for role in sorted(one.inputs)]
            depths[one.digest] = 1 + max(below, default=-1)
        return depths[one.digest]

    asked = reader.find(digest) or known
    if asked is None:
        raise StoreError(f"stage {digest} is known by its name alone; its manifest cannot be read")
    place(replace(asked, asked=True))
    for judging in filter(None, map(reader.find, sorted(reader.judging(digest)))):
        if digest in entry(judging.stage).judged(judging.inputs):
            place(judging)
    return sorted(placed.values(), key=lambda one: (depths[one.digest], one.stage, one.digest))


def _input(reader: Reader, record: Record, role: str) -> Record:
    digest = record.inputs[role]
    found = reader.find(digest)
    if found is not None:
        return found
    stage = record.stages.get(digest, "")
    outside = not stage and (role in OUTSIDE_ROLES or not DIGEST.fullmatch(digest))
    return Record(stage=stage, digest=digest, state="outside" if outside else "unknown")


def _match(reader: Reader, name: str) -> str:
    folder = Path(os.path.expanduser(name))  # no error, whatever the name
    for path in (folder / MANIFEST, folder.parent / MANIFEST):
        if os.path.isfile(path):  # a folder of the store, or the model in it
            name = path.resolve().parent.name
    stage, _, beginning = name.rpartition("/")
    could_be = BEGINNING.fullmatch(beginning) and (not stage or STAGE.fullmatch(stage))
    found = reader.named(stage, beginning) if could_be else set()
    if len(found) != 1:
        count = f"{MANY} or more" if len(found) >= MANY else f"{len(found)}"
        raise StoreError(
            f"{name!r} names {count} published stages, wanted exactly one as stage/digest, "
            "such as ppo/3fa81c2b, or a registered model; MLflow's Models page and the tags "
            "quartet.digest of its runs show them"
        )
    return found.pop()
