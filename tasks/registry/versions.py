"""Published models in MLflow's model registry, as plain files: no pickles, no flavours.

A version is a logged model with the files of a stage's `model/` folder and a model card. Its tags
name the stage and its digest, so whoever asks for the version gets the published stage itself.
"""

import contextlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ModelError
from tasks.catalogue import entry
from tasks.registry.card import card_body, gather_facts, write_card
from tasks.results.store import Manifest, StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import emit, run_logger
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker, tagged
from tasks.tracking.outages import tolerated

CHALLENGER = "challenger"
"""Alias of the newest version; who promotes a model gives it another."""

UNFINISHED = "quartet.registering"
"""Tag of a version that has no alias and no card yet."""

PROMOTION = "quartet.promotion"
"""Of the tags in which a promotion says what it found; the whole of this one is how it ended."""

NAME = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
LOGGED = re.compile(r"models:/(m-[^/]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        source: Where MLflow has its files.
        tags: Those of Quartet name stage and digest; models from elsewhere have none.
    """

    name: str
    version: str
    source: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def published(self) -> tuple[str, str] | None:
        """Stage and digest that it was made from; None if Quartet did not register it."""
        stage, digest = self.tags.get("quartet.stage"), self.tags.get("quartet.digest")
        return (stage, digest) if stage and digest else None

    def is_same_model(self, other: "ModelVersion") -> bool:
        """Whether two versions of one name are one model; of foreign ones only the number tells."""
        return self.version == other.version or (
            self.published is not None and self.published == other.published
        )


def register(ref: StageRef, pipeline: PipelineRun) -> None:
    """Register a published model as `<preset>-<role>`, once for each digest, and emit an event.

    The role is the stage's in the catalogue. The new version gets the alias `challenger`. What a
    kill cut off is finished the next time. An MLflow that fails is no reason to fail here.

    Raises:
        StoreError: The published stage is damaged.
    """
    settings = load_settings()
    tracker, store = Tracker(settings), Store(settings.store)
    role = entry(ref.stage).role or ref.stage
    name = re.sub(r"[^\w.-]", "-", f"{pipeline.preset}-{role}")
    with tolerated(f"the registration of {name}"):
        tracker.require()
        with store.lock(ref.stage, ref.digest, on_wait=lambda: None):
            wanted = f"name = '{name}' and {tagged({'quartet.digest': ref.digest})}"
            there = [_version(one) for one in tracker.versions(wanted)]
            unfinished = [one for one in there if UNFINISHED in one.tags]
            if there and not unfinished:
                return
            folder = store.open(ref)
            version = (
                unfinished[0] if unfinished else _add_version(tracker, name, role, folder, pipeline)
            )
            _finish(tracker, store, version)
        run_logger().info("%s %s is registered as %s", ref.stage, ref.digest[:12], version.uri)
        payload = {
            "name": name,
            "version": version.version,
            "uri": version.uri,
            "role": role,
            "stage": ref.stage,
            "digest": ref.digest,
            "preset": pipeline.preset,
        }
        emit("quartet.model.registered", f"quartet.model.{name}", payload)


def finish_registrations(settings: Settings) -> list[str]:
    """Give every version that a kill left without alias or card both; one sentence for each."""
    tracker, store = Tracker(settings), Store(settings.store)
    messages = []
    with tolerated("the registrations that were cut off"):
        for one in map(_version, tracker.versions(tagged({UNFINISHED: "true"}))):
            if one.published is None:
                continue
            with store.lock(*one.published, on_wait=lambda: None):
                _finish(tracker, store, one)
            messages.append(f"{one.uri}: its registration, which was cut off, is finished")
    return messages


def named_version(name: str) -> ModelVersion:
    """As `find_version`, in the MLflow that the settings name."""
    return find_version(Tracker(load_settings()), name)


def fetch_files(version: ModelVersion, into: Path) -> Path:
    """As `download`, from the MLflow that the settings name."""
    return download(Tracker(load_settings()), version, into)


def find_version(tracker: Tracker, name: str) -> ModelVersion:
    """Find the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names.

    Raises:
        ModelError: The name has another form, or MLflow has no such version or does not answer.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"{name!r} names no registered model, wanted models:/NAME@ALIAS or "
            "models:/NAME/NUMBER; MLflow's Models page shows them"
        )
    try:
        tracker.require()
        if match["alias"]:
            found = tracker.client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            found = tracker.client.get_model_version(match["name"], match["version"])
    except Exception as error:  # MLflow passes on errors of several libraries
        raise ModelError(
            f"MLflow at {tracker.uri} does not give {name!r} ({error}); choose a version and an "
            "alias that its Models page shows, or give stage/digest"
        ) from error
    return _version(found)


def download(tracker: Tracker, version: ModelVersion, into: Path) -> Path:
    """Download the files of a version and return where they lie.

    Raises:
        ModelError: They cannot be had.
    """
    run = re.fullmatch(r"runs:/([^/]+)/(.+)", version.source)
    logged = LOGGED.fullmatch(version.source)
    try:
        if run is not None:
            return Path(tracker.client.download_artifacts(run[1], run[2], dst_path=str(into)))
        if logged is None:
            raise ValueError(f"its source is {version.source}")
        # The public client uploads the files of a logged model, and downloads only a run's.
        files = tracker.client._tracking_client._get_artifact_repo(
            logged[1], resource="logged_model"
        )
        return Path(files.download_artifacts("", dst_path=str(into)))
    except Exception as error:  # MLflow passes on errors of several libraries
        raise ModelError(
            f"the files of {version.uri} cannot be downloaded from MLflow at {tracker.uri} "
            f"({error}); copy the model's folder here and give that"
        ) from error


def renew_card(tracker: Tracker, store: Store, version: ModelVersion) -> None:
    """Write the model card of a version again, into its files and its description.

    A card that cannot be written is a warning: the model is as good without it.
    """
    logged = LOGGED.fullmatch(version.source)
    if version.published is None or logged is None:
        return
    with tolerated(f"the model card of {version.uri}"), tempfile.TemporaryDirectory() as scratch:
        folder = store.folder(*version.published)
        promotion = {
            key.removeprefix(PROMOTION).lstrip(".") or "result": value
            for key, value in version.tags.items()
            if key.startswith(PROMOTION)
        }
        facts = gather_facts(
            store,
            Manifest.read(folder),
            name=version.name,
            preset=version.tags.get("quartet.preset", ""),
            promotion=promotion,
        )
        card = Path(scratch) / "README.md"
        card.write_text(write_card(facts), encoding="utf-8")
        tracker.client.log_model_artifact(logged[1], str(card))
        tracker.client.update_model_version(version.name, version.version, card_body(facts))


def renew_cards(ref: StageRef) -> None:
    """Write the cards of a published model's versions again, now that more is known of it.

    An MLflow that fails is no reason to fail here.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    with tolerated(f"the model cards of {ref.stage}"):
        tracker.require()
        for found in tracker.versions(tagged({"quartet.digest": ref.digest})):
            renew_card(tracker, Store(settings.store), _version(found))


def _finish(tracker: Tracker, store: Store, version: ModelVersion) -> None:
    """Give a new version its alias, unless a newer one has it, and its card."""
    aliases = tracker.client.get_registered_model(version.name).aliases
    if int(version.version) >= int(aliases.get(CHALLENGER, 0)):
        tracker.client.set_registered_model_alias(version.name, CHALLENGER, version.version)
    renew_card(tracker, store, version)
    tracker.client.delete_model_version_tag(version.name, version.version, UNFINISHED)


def _add_version(
    tracker: Tracker, name: str, role: str, folder: Path, pipeline: PipelineRun
) -> ModelVersion:
    client = tracker.client
    manifest = Manifest.read(folder)
    tags = {
        "quartet.stage": manifest.stage,
        "quartet.digest": manifest.digest,
        "quartet.role": role,
        "quartet.run": manifest.run_id,
        "quartet.preset": pipeline.preset,
        "quartet.pipeline": pipeline.name,
        **{f"input.{role}": digest for role, digest in manifest.inputs.items()},
    }
    run_id = manifest.run_id or None
    if run_id and tracker.status(run_id) is None:  # made while another MLflow was in use
        run_id = None
    logged = client.create_logged_model(
        tracker.experiment_id, name=name, source_run_id=run_id, tags=tags
    )
    try:
        client.log_model_artifacts(logged.model_id, str(folder / "model"))
        client.finalize_logged_model(logged.model_id, "READY")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        found = client.create_model_version(
            name, logged.model_uri, run_id=run_id, tags=tags | {UNFINISHED: "true"},
            model_id=logged.model_id,
        )  # fmt: skip
    except BaseException:
        with contextlib.suppress(Exception):  # half a model is of no use to anybody
            client.delete_logged_model(logged.model_id)
        raise
    return _version(found)


def _version(found: Any) -> ModelVersion:
    return ModelVersion(
        name=found.name, version=str(found.version), source=str(found.source), tags=dict(found.tags)
    )
