"""Models and data by the name that a person gives: which published stage is meant.

    sft/3fa81c2b                     a published stage, by digest or its beginning
    models:/quickstart-sft@champion  a registered model, by alias or number
    ~/models/mine                    a folder
    HuggingFaceTB/SmolLM2-135M@main  a model of the hub, perhaps with a revision

For a run, what is named comes back as a published stage: what is not one yet is adopted, so it is
checked and made complete before anything is trained on it. For a conversation or a server nothing
is adopted or recorded: a folder is used where it lies, and what else is named is found or fetched
first.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError, StoreError
from models.language.screening import screen_model
from tasks.catalogue import CATALOGUE, Role, stages_for
from tasks.registry.versions import fetch_files, named_version
from tasks.results.store import StageRef, Store
from tasks.run.exchange import open_published
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.run.stage import stage_task
from tasks.settings import load_settings
from tasks.stages.adopt import adopt, named_folder

PUBLISHED = re.compile(r"(?P<stage>[a-z][\w-]*)/(?P<digest>[0-9a-f]{1,64})")
LANGUAGE_MODEL = ("ForCausalLM", "LMHeadModel")
CLASSIFIER = ("ForSequenceClassification",)
"""How the names of fitting architectures end."""
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFolder:
    """A model folder, and a short name for it of letters, digits and `. _ -`."""

    path: Path
    name: str


def find_model(name: str, *, role: Role, pipeline: PipelineRun) -> StageRef:
    """Find the published stage of a model, adopting one from elsewhere.

    Raises:
        ModelError: There is none by that name, or it is not what the role needs.
        StoreError: No published stage goes by that name, or it is damaged.
    """
    name = name.strip()
    if name.startswith("models:"):
        return _find_registered(name, role, pipeline)
    if published := _published_name(name):
        return _find_published(*published, role)
    folder = named_folder(name)
    if folder is None and not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{role} model {name!r} is no folder here, no stage/digest (such as "
            f"{stages_for(role)[0]}/3fa81c2b), no models:/NAME@ALIAS and no hub id; check the "
            "spelling, and give a folder as the flow's machine sees it"
        )
    return _adopt(name if folder is None else str(folder), role, pipeline)


@contextlib.contextmanager
def model_folder(name: str) -> Iterator[NamedFolder]:
    """Give a model's folder while the block lasts.

    Raises:
        ModelError: There is none by that name.
        StoreError: The published stage is absent or damaged.
    """
    name = name.strip()
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        if name.startswith("models:"):
            yield _registered_folder(name, Path(scratch))
        elif (folder := named_folder(name)) is not None:
            yield _local_folder(folder)
        elif published := _published_name(name):
            stage, digest = published
            yield _folder_of(stage, digest, f"{stage}-{digest[:12]}")
        else:
            yield _hub_folder(name)


def _published_name(name: str) -> tuple[str, str] | None:
    """Stage and digest of `stage/digest`; None for what may be a hub id."""
    match = PUBLISHED.fullmatch(name)
    return (match["stage"], match["digest"]) if match and match["stage"] in CATALOGUE else None


def _find_registered(name: str, role: Role, pipeline: PipelineRun) -> StageRef:
    version = named_version(name)
    if version.published is not None:
        return _find_published(*version.published, role, called=f"{name} ({version.uri})")
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        return _adopt(str(fetch_files(version, Path(scratch))), role, pipeline)


def _find_published(stage: str, digest: str, role: Role, *, called: str = "") -> StageRef:
    called = called or f"{stage}/{digest}"
    wanted = stages_for(role)
    if stage not in wanted:
        raise ModelError(
            f"{called} is the result of stage {stage}, wanted a {role} model, from stage "
            f"{' or '.join(wanted)}; give one such as {wanted[0]}/3fa81c2b or models:/NAME@ALIAS"
        )
    ref = open_published(stage, digest)
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    if not (folder / "model" / "config.json").is_file():
        raise ModelError(
            f"{called} holds no model, wanted a {role} model in {folder / 'model'}; name a stage "
            f"that trains one: {' or '.join(wanted)}"
        )
    return ref


def _adopt(source: str, role: Role, pipeline: PipelineRun) -> StageRef:
    """Adopt under the role's name, so that the run's page shows it as the stage that it is."""
    folder = named_folder(source)
    if planning() is not None and folder is not None:
        _refuse_unfit(folder, role)
    return stage_task(role)(adopt.fn)(source, role=role, pipeline=pipeline)


def _refuse_unfit(folder: Path, role: Role) -> None:
    """Refuse what adoption would refuse, as far as a folder's files say it without torch."""
    config, _ = screen_model(folder)
    wanted = CLASSIFIER if role in ("reward", "judge") else LANGUAGE_MODEL
    named = next(iter(config.get("architectures") or [""]))
    if not named.endswith(wanted):
        raise ModelError(
            f"{folder} holds a {named or 'model without a named architecture'}, a {role} model "
            f"({' or '.join(f'…{ending}' for ending in wanted)}) was wanted; choose another model, "
            "or the role that this one fits"
        )


def _registered_folder(name: str, scratch: Path) -> NamedFolder:
    version = named_version(name)
    called = re.sub(r"[^\w.-]", "-", version.name)
    if version.published is not None:
        with contextlib.suppress(StoreError):  # cleaned here: MLflow has the version's own files
            return _folder_of(*version.published, called)
    return NamedFolder(path=fetch_files(version, scratch), name=called)


def _folder_of(stage: str, digest: str, called: str) -> NamedFolder:
    ref = open_published(stage, digest)
    folder = Store(load_settings().store).folder(ref.stage, ref.digest) / "model"
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{stage}/{digest[:12]} holds no model; name a stage that trains one, such as "
            "pretrain, sft or ppo"
        )
    return NamedFolder(path=folder, name=called)


def _local_folder(folder: Path) -> NamedFolder:
    folder = folder.resolve()
    inner = folder / "model"
    if not (folder / "config.json").is_file() and (inner / "config.json").is_file():
        folder = inner
    named = folder.parent if folder.name == "model" else folder
    return NamedFolder(path=folder, name=re.sub(r"[^\w.-]", "-", named.name)[:40] or "model")


def _hub_folder(name: str) -> NamedFolder:
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{name!r} is no folder here, no stage/digest (such as ppo/3fa81c2b), no "
            "models:/NAME@ALIAS and no hub id; check the spelling"
        )
    from models.language.adoption import download_model  # imports torch

    source, _, revision = name.partition("@")
    found = download_model(source, revision or None)
    return NamedFolder(path=found, name=source.rpartition("/")[2])
