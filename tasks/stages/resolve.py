"""Models and data by the name that a person gives: which published stage is meant.

    sft/3fa81c2b                     a published stage, by digest or its beginning
    models:/quickstart-sft@champion  a registered model, by alias or number
    ~/models/mine                    a folder
    HuggingFaceTB/SmolLM2-135M@main  a model of the hub, perhaps with a revision

Whatever is named comes back as a published stage: what is not one yet is adopted, so it is checked
before anything is trained on it.
"""

import re
import tempfile
from pathlib import Path

from models.errors import ModelError, StoreError
from tasks.catalogue import Role
from tasks.registry.versions import download, find_version
from tasks.results.store import StageRef, Store
from tasks.run.exchange import fetch_published
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.stages.adopt import adopt
from tasks.tracking.client import Tracker, tolerated

STAGES_FOR: dict[Role, tuple[str, ...]] = {
    "base": ("pretrain", "base", "sft", "ppo", "policy"),
    "sft": ("sft", "ppo", "policy"),
    "reward": ("reward", "judge"),
    "judge": ("judge", "reward"),
    "policy": ("ppo", "policy", "sft"),
}
"""The stages whose model fits a role; training can start again where training ended."""

STAGES = ("prepare", "tokenizer", "pretrain", "base", "sft", "feedback", "reward", "judge", "ppo",
          "policy")  # fmt: skip
PUBLISHED = re.compile(rf"({'|'.join((*STAGES, 'evaluate'))})/([0-9a-f]{{1,64}})")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
DIGEST_LENGTH = 64


def find_model(name: str, *, role: Role, pipeline: PipelineRun) -> StageRef:
    """Find the published stage of a model, adopting one from elsewhere.

    Args:
        name: stage/digest, models:/NAME@ALIAS, models:/NAME/NUMBER, a folder, or a hub id.
        role: What the model is to be.
        pipeline: The run that wants it.

    Raises:
        ModelError: There is none by that name, or it is not what the role needs.
        StoreError: No published stage goes by that name, or it is damaged.
    """
    name = name.strip()
    if name.startswith("models:"):
        return _find_registered(name, role, pipeline)
    if match := PUBLISHED.fullmatch(name):
        return _find_published(match[1], match[2], role)
    folder = Path(name).expanduser()
    if name and folder.is_dir():  # an empty name would be the folder that one is in
        return _adopt(str(folder), role, pipeline)
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{role} model {name!r} is no folder here, no stage/digest (such as "
            f"{STAGES_FOR[role][0]}/3fa81c2b), no models:/NAME@ALIAS and no hub id; check the "
            "spelling, and give a folder as the flow's machine sees it"
        )
    return _adopt(name, role, pipeline)


def find_stage(name: str, stage: str) -> StageRef:
    """Find published data: `stage/digest`, or the digest alone, whole or its beginning.

    Raises:
        StoreError: It is another stage's, no published stage goes by that name, or it is damaged.
    """
    given, _, digest = name.strip().rpartition("/")
    if given not in ("", stage):
        raise StoreError(
            f"{name!r} is published by stage {given}, wanted one of stage {stage}; the tags "
            "input.* of MLflow's runs show them"
        )
    return _open_published(stage, digest)


def input_of(ref: StageRef, role: str) -> StageRef | None:
    """Find the published stage that a stage was made from; None if it is not known any more.

    Args:
        ref: A published stage.
        role: Of the input, as its manifest has it: `base`, `reference`, `reward_model`, `prompts`.

    Raises:
        StoreError: One of the two is damaged.
    """
    settings = load_settings()
    store, tracker = Store(settings.store), Tracker(settings)
    manifest = store.find(ref.stage, ref.digest)
    digest = manifest.inputs.get(role) if manifest else None
    if digest is None or not re.fullmatch(f"[0-9a-f]{{{DIGEST_LENGTH}}}", digest):
        return None
    stage = store.stage_of(digest)
    if stage is None:
        with tolerated(f"the look for the {role} of {ref.stage}"):
            run_id = tracker.find_published(digest) if tracker.reachable() else None
            stage = tracker.tags(run_id).get("quartet.stage") if run_id else None
    return _open_published(stage, digest) if stage else None


def _find_registered(name: str, role: Role, pipeline: PipelineRun) -> StageRef:
    tracker = Tracker(load_settings())
    version = find_version(tracker, name)
    if version.published is not None:
        return _find_published(*version.published, role, called=f"{name} ({version.uri})")
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        return _adopt(str(download(tracker, version, Path(scratch))), role, pipeline)


def _find_published(stage: str, digest: str, role: Role, *, called: str = "") -> StageRef:
    called = called or f"{stage}/{digest}"
    wanted = STAGES_FOR[role]
    if stage not in wanted:
        raise ModelError(
            f"{called} is the result of stage {stage}, wanted a {role} model, from stage "
            f"{' or '.join(wanted)}; give one such as {wanted[0]}/3fa81c2b or models:/NAME@ALIAS"
        )
    ref = _open_published(stage, digest)
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    if not (folder / "model" / "config.json").is_file():
        raise ModelError(
            f"{called} holds no model, wanted a {role} model in {folder / 'model'}; name a stage "
            f"that trains one: {' or '.join(wanted)}"
        )
    return ref


def _open_published(stage: str, digest: str) -> StageRef:
    """Find a published stage in the store, or fetch it from MLflow if its digest is whole."""
    settings = load_settings()
    store = Store(settings.store)
    if len(digest) == DIGEST_LENGTH and not store.folder(stage, digest).exists():
        tracker = Tracker(settings)
        with store.lock(stage, digest, on_wait=lambda: None):
            if not store.folder(stage, digest).exists() and tracker.reachable():
                fetch_published(store, tracker, stage, digest)
    return store.resolve(f"{stage}/{digest}")


def _adopt(source: str, role: Role, pipeline: PipelineRun) -> StageRef:
    """Adopt under the role's name, so that the run's page shows it as the stage that it is."""
    return adopt.with_options(name=role, task_run_name=role)(source, role=role, pipeline=pipeline)
