"""Models and data by the name that a person gives: which published stage is meant.

    sft/3fa81c2b                     a published stage, by digest or its beginning
    models:/quickstart-sft@champion  a registered model, by alias or number
    ~/models/mine                    a folder
    quickstart-sft                   a registered model: its champion, else its challenger
    HuggingFaceTB/SmolLM2-135M@main  a model of the hub, perhaps with a revision

A name without `/`, `@` and `:` may be any of the last three: it is a folder if there is one, else a
registered model if MLflow has one, else the hub's. `models:/quickstart-sft` and `./quickstart-sft`
leave no doubt.

For a run, what is named comes back as a published stage: what is not one yet is adopted, so it is
checked and made complete before anything is trained on it. For a conversation or a server nothing
is adopted or recorded: a folder is used where it lies, and what else is named is found or fetched
first.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.display import one_line
from models.errors import ModelError, StoreError
from models.families.recognition import refuse_unaligned_model
from models.language.screening import screen_model
from tasks.catalogue import CATALOGUE, Role, stages_for
from tasks.registry.versions import ModelVersion, fetch_files, is_registered, named_version
from tasks.results.store import StageRef, Store
from tasks.run.exchange import open_published
from tasks.run.planning import planning
from tasks.settings import load_settings

if TYPE_CHECKING:
    from tasks.run.pipeline import PipelineRun

PUBLISHED = re.compile(r"(?P<stage>[a-z][\w-]*)/(?P<digest>[0-9a-f]{1,64})")
LANGUAGE_MODEL = ("ForCausalLM", "LMHeadModel")
CLASSIFIER = ("ForSequenceClassification",)
"""How the names of fitting architectures end."""

SCORERS = ("reward", "judge")
"""Roles of models that score."""

HUB_SECONDS = 10.0
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFolder:
    """A model folder.

    Attributes:
        name: As it was given.
        version: Address of the registered version that it is of; empty for others.
    """

    path: Path
    name: str
    version: str = ""


def find_model(name: str, *, role: Role, pipeline: "PipelineRun", adapter: str = "") -> StageRef:
    """Find the published stage of a model, adopting one from elsewhere.

    Args:
        adapter: Folder or hub id of a LoRA adapter to merge into it; the model is then adopted,
            whatever it is.

    Raises:
        ModelError: There is none by that name, or it is not what the role needs.
        StoreError: No published stage goes by that name, or it is damaged.
    """
    if adapter:
        with model_folder(name) as base:
            return _adopt(str(base.path), role, pipeline, adapter)
    match _meaning(name.strip()):
        case (stage, digest):
            return _find_published(stage, digest, role)
        case ModelVersion(published=(stage, digest)) as version:
            return _find_published(stage, digest, role, called=f"{name} ({version.uri})")
        case ModelVersion() as version:
            with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
                return _adopt(str(fetch_files(version, Path(scratch))), role, pipeline)
        case source:
            return _adopt(str(source), role, pipeline)


@contextlib.contextmanager
def model_folder(name: str) -> Iterator[NamedFolder]:
    """Give a model's folder while the block lasts.

    Raises:
        ModelError: There is none by that name.
        StoreError: The published stage is absent or damaged.
    """
    name = name.strip()
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        match _meaning(name):
            case (stage, digest):
                yield NamedFolder(path=_folder_of(stage, digest), name=name)
            case ModelVersion() as version:
                path = _files_of(version, Path(scratch))
                yield NamedFolder(path=path, name=name, version=version.uri)
            case Path() as folder:
                yield NamedFolder(path=_inner_folder(folder), name=name)
            case source:
                _want_hub(source)
                from models.adoption.adopt import download_model  # imports torch

                source, _, revision = source.partition("@")
                yield NamedFolder(path=download_model(source, revision or None), name=name)


def _meaning(name: str) -> tuple[str, str] | ModelVersion | Path | str:
    """Stage and digest, a registered version, a folder, or a hub id: the first that there is.

    Raises:
        ModelError: It can be nothing of all that.
    """
    match = PUBLISHED.fullmatch(name)
    if match and match["stage"] in CATALOGUE:  # else it may be a hub id
        return match["stage"], match["digest"]
    if name.startswith("models:"):
        return named_version(name)
    if name and os.path.isdir(os.path.expanduser(name)):  # no error, whatever the name
        return Path(name).expanduser()
    if is_registered(name):
        return named_version(name)
    if HUB_ID.fullmatch(name):
        return name
    raise ModelError(
        f"model {one_line(name)!r} is no folder here, no stage/digest (such as sft/3fa81c2b), no "
        "registered model and no hub id; check the spelling, and give a folder as the machine that "
        "uses it sees it"
    )


def _want_hub(name: str) -> None:
    """Refuse what neither the hub gives nor its cache here, before torch is loaded for it."""
    from huggingface_hub import HfApi, snapshot_download

    source, _, revision = name.partition("@")
    try:
        HfApi().model_info(source, revision=revision or None, timeout=HUB_SECONDS)
    except Exception as error:  # the client raises errors of several libraries
        try:
            snapshot_download(source, revision=revision or None, local_files_only=True)
        except Exception:
            raise ModelError(
                f"{name!r} is no folder here and no registered model, and the hub does not give it "
                f"({one_line(error)}); check the spelling, or give stage/digest"
            ) from error


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
    if role not in SCORERS:
        with contextlib.suppress(ValueError):  # what is damaged is refused where it is read
            config = json.loads((folder / "model" / "config.json").read_bytes())
            refuse_unaligned_model(called, config)
    return ref


def _adopt(source: str, role: Role, pipeline: "PipelineRun", adapter: str = "") -> StageRef:
    """Adopt under the role's name, so that the run's page shows it as the stage that it is."""
    from tasks.run.stage_task import stage_task  # Prefect: only where there is a run
    from tasks.stages.adopt import adopt, named_folder

    folder = named_folder(source)
    if planning() is not None and folder is not None:
        _refuse_unfit(folder, role)
    return stage_task(role)(adopt.fn)(source, role=role, pipeline=pipeline, adapter=adapter)


def _refuse_unfit(folder: Path, role: Role) -> None:
    """Refuse what adoption would refuse, as far as a folder's files say it without torch."""
    config, _ = screen_model(folder)
    wanted = CLASSIFIER if role in SCORERS else LANGUAGE_MODEL
    if role not in SCORERS:
        refuse_unaligned_model(str(folder), config)
    named = next(iter(config.get("architectures") or [""]))
    if not named.endswith(wanted):
        raise ModelError(
            f"{folder} holds a {named or 'model without a named architecture'}, a {role} model "
            f"({' or '.join(f'…{ending}' for ending in wanted)}) was wanted; choose another model, "
            "or the role that this one fits"
        )


def _files_of(version: ModelVersion, scratch: Path) -> Path:
    if version.published is not None:
        with contextlib.suppress(StoreError):  # cleaned here: MLflow has the version's own files
            return _folder_of(*version.published)
    return fetch_files(version, scratch)


def _folder_of(stage: str, digest: str) -> Path:
    ref = open_published(stage, digest)
    folder = Store(load_settings().store).folder(ref.stage, ref.digest) / "model"
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{stage}/{digest[:12]} holds no model; name a stage that trains one, such as "
            "pretrain, sft or ppo"
        )
    return folder


def _inner_folder(folder: Path) -> Path:
    """The model in a published stage's folder, else the folder itself."""
    folder = folder.resolve()
    inner = folder / "model"
    alone = (folder / "config.json").is_file() or not (inner / "config.json").is_file()
    return folder if alone else inner
