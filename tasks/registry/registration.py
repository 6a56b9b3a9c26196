"""Registration of published models in MLflow's model registry: no pickles, no flavours.

A version is a logged model with the files of a stage's `model/` folder and a model card. It is made
with a tag that says what is still to be written of it, so whoever comes next finishes what a kill
cut off: the next run of the same result, a promotion, `quartet sync`.
"""

import contextlib
import re
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from models.errors import StoreError
from tasks.catalogue import entry
from tasks.registry.verdicts import has_verdicts, point_challenger, renew_card, settle
from tasks.registry.versions import (
    BARE,
    CARD,
    NOT_EVALUATED,
    REGISTRATION,
    UNFINISHED,
    VERDICT,
    ModelVersion,
    version_of,
)
from tasks.results.manifests import list_published
from tasks.results.store import StageRef, Store, write_whole
from tasks.run.overview import overview
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.run.reporting import emit, run_logger
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import every, tagged
from tasks.tracking.sync import Seen


class Registration(BaseModel, frozen=True):
    """A model that is to be registered; a note of it is left while MLflow is away."""

    stage: str
    digest: str
    preset: str
    pipeline: str

    @property
    def role(self) -> str:
        """The stage's in the catalogue."""
        return entry(self.stage).role or self.stage

    @property
    def name(self) -> str:
        """Of the registered model."""
        return re.sub(r"[^\w.-]", "-", f"{self.preset}-{self.role}")

    def note(self, root: Path) -> Path:
        """Where its note lies."""
        return root / "unregistered" / f"{self.name}-{self.digest}.json"


def register(ref: StageRef, pipeline: PipelineRun) -> None:
    """Register a published model as `<preset>-<role>`, once for each digest, and emit an event.

    A policy's version waits for its verdict (`tasks/registry/verdicts.py`); others get the alias
    `challenger` at once. What a kill cut off is finished the next time. An MLflow that fails is no
    reason to fail here: then a note stays, for `quartet sync`.

    Raises:
        StoreError: The published stage is damaged.
    """
    if planning() is not None:
        return
    settings = load_settings()
    wanted = Registration(
        stage=ref.stage, digest=ref.digest, preset=pipeline.preset, pipeline=pipeline.name
    )
    write_whole(wanted.note(settings.root), wanted.model_dump_json())
    with tolerated(f"the registration of {wanted.name}"):
        tracker = Tracker(settings)
        tracker.require(patient=True)
        _register(tracker, Store(settings.store), wanted)
        wanted.note(settings.root).unlink(missing_ok=True)


def _register(tracker: Tracker, store: Store, wanted: Registration) -> None:
    with store.lock(wanted.stage, wanted.digest, on_wait=lambda: None):
        here = f"name = '{wanted.name}' and {tagged({'quartet.digest': wanted.digest})}"
        there = [version_of(one) for one in tracker.versions(here)]
        unfinished = [one for one in there if UNFINISHED in one.tags]
        if there and not unfinished:
            _show(there[0])
            return
        version = unfinished[0] if unfinished else _add_version(tracker, store, wanted)
        run_logger().info(
            "%s %s is registered as %s", wanted.stage, wanted.digest[:12], version.uri
        )
        finish(tracker, store, version)
        _show(version)


def _show(version: ModelVersion) -> None:
    """Name a version in the report of the flow run."""
    uri = load_settings().tracking_uri
    overview().add_model(version.uri, f"{uri.rstrip('/')}/{version.page}" if uri else "")


def make_missed_registrations(settings: Settings) -> list[str]:
    """Register what could not be while MLflow was away; one sentence for each."""
    messages = []
    for path in sorted((settings.root / "unregistered").glob("*.json")):
        try:
            wanted = Registration.model_validate_json(path.read_bytes())
        except ValidationError as error:
            run_logger().warning("left out the note %s, which cannot be read: %s", path, error)
            continue
        with tolerated(f"the registration of {wanted.name}"):
            try:
                _register(Tracker(settings), Store(settings.store), wanted)
            except StoreError as error:
                messages.append(f"{wanted.stage} {wanted.digest[:12]}: not registered, {error}")
                continue
            path.unlink(missing_ok=True)
            messages.append(f"{wanted.stage} {wanted.digest[:12]}: registered as {wanted.name}")
    return messages


def finish_registrations(settings: Settings, name: str = "") -> list[str]:
    """Finish every version that a kill left without event, card, verdict or alias.

    Args:
        name: Of one registered model, whose cards are left alone then; empty for all.

    Returns:
        A sentence for each.
    """
    tracker, store = Tracker(settings), Store(settings.store)
    messages = []
    with tolerated("the registrations that were cut off"):
        tracker.require(patient=True)
        seen, now = Seen(settings.root / "settled.json", tracker), time.time()
        policies = _evaluated_since(store, seen.until())
        for one in map(version_of, tracker.versions(f"tags.`{UNFINISHED}` LIKE '%'")):
            if one.published is None:
                continue
            policies = None if policies is None else policies | {one.published[1]}
            if name and (one.name != name or one.tags[UNFINISHED] != REGISTRATION):
                continue
            with store.lock(*one.published, on_wait=lambda: None):
                whole = finish(tracker, store, one)
            if whole:
                messages.append(f"{one.uri}: what was still to be written of it is written")
            else:
                stage = "/".join(one.published)
                messages.append(
                    f"{one.uri}: its model card cannot be written here; `quartet sync` writes it "
                    f"where the store has {stage}"
                )
        for known in [name] if name else _names_of_policies(tracker):
            messages += settle(tracker, store, known, policies)
        if not name:
            seen.write(now)
    return messages


def _evaluated_since(store: Store, since: float) -> set[str] | None:
    """Policies of the evaluations that came since; None for all, where nothing is known."""
    found = list_published(store.root, "evaluate", since=since) if since else ()
    return {one.inputs.get("policy", "") for _, one in found} if since else None


def _names_of_policies(tracker: Tracker) -> list[str]:
    there = (one.name for one in every(tracker.client.search_registered_models))
    names = sorted(filter(BARE.fullmatch, there))  # ours; "bob's model" would break the filter
    newest = (next(tracker.versions(f"name = '{one}'", page=1), None) for one in names)
    return [one.name for one in newest if one is not None and has_verdicts(version_of(one))]


def finish(tracker: Tracker, store: Store, version: ModelVersion) -> bool:
    """Write what is still to be written of a version; False if its card cannot be."""
    name = version.name
    point_challenger(tracker, name)
    if version.tags.get(UNFINISHED) == REGISTRATION:
        stage, digest = version.published or ("", "")
        payload = {
            "name": name,
            "version": version.version,
            "uri": version.uri,
            "role": version.tags.get("quartet.role", ""),
            "stage": stage,
            "digest": digest,
            "preset": version.tags.get("quartet.preset", ""),
        }
        emit("quartet.model.registered", f"quartet.model.{name}", payload)
        tracker.client.set_model_version_tag(name, version.version, UNFINISHED, CARD)
    if not renew_card(tracker, store, version):
        return False
    tracker.client.delete_model_version_tag(name, version.version, UNFINISHED)
    return True


def finish_cards(tracker: Tracker, store: Store, name: str, *numbers: str) -> None:
    """Write the cards of versions that changed; one that cannot be written is left for later."""
    for number in filter(None, numbers):
        with tolerated(f"the model card of models:/{name}/{number}"):
            version = version_of(tracker.client.get_model_version(name, number))
            if UNFINISHED in version.tags:
                finish(tracker, store, version)


def _add_version(tracker: Tracker, store: Store, wanted: Registration) -> ModelVersion:
    client, name = tracker.client, wanted.name
    manifest = store.find(wanted.stage, wanted.digest)
    if manifest is None:
        raise StoreError("it is not in the store; run the pipeline again")
    folder = store.folder(wanted.stage, wanted.digest)
    tags = {
        "quartet.stage": manifest.stage,
        "quartet.digest": manifest.digest,
        "quartet.role": wanted.role,
        "quartet.run": manifest.run_id,
        "quartet.preset": wanted.preset,
        "quartet.pipeline": wanted.pipeline,
        **{f"input.{role}": digest for role, digest in manifest.inputs.items()},
    }
    waits = {VERDICT: NOT_EVALUATED} if wanted.role == "policy" else {}
    run_id = manifest.run_id or None
    if run_id and tracker.status(run_id) is None:  # made while another MLflow was in use
        run_id = None
    logged = _logged_model(tracker, name, manifest.digest) or client.create_logged_model(
        tracker.experiment_id, name=name, source_run_id=run_id, tags=tags
    )
    try:
        client.log_model_artifacts(logged.model_id, str(folder / "model"))
        client.finalize_logged_model(logged.model_id, "READY")
    except BaseException:
        with contextlib.suppress(Exception):  # half a model is of no use to anybody
            client.delete_logged_model(logged.model_id)
        raise
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    found = client.create_model_version(
        name, logged.model_uri, run_id=run_id, model_id=logged.model_id,
        tags=waits | tags | {UNFINISHED: REGISTRATION},
    )  # fmt: skip
    return version_of(found)


def _logged_model(tracker: Tracker, name: str, digest: str) -> Any:
    """A logged model that a kill left without a version; None if there is none."""
    found = tracker.client.search_logged_models(
        [tracker.experiment_id],
        filter_string=f"name = '{name}' AND tags.`quartet.digest` = '{digest}'",
        max_results=1,
    )
    return next(iter(found), None)
