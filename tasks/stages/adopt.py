"""Adopt: a model from a folder or the hub, checked and made complete, as a stage of its own."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from huggingface_hub import HfApi

from models.errors import ModelError
from models.language.screening import model_files
from models.unfit import ADAPTER_CONFIG, ADAPTER_WEIGHTS, refuse_unfit
from tasks.catalogue import Role
from tasks.results.digests import file_digest
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

TOKENIZER_FILES = ("tokenizer", "vocab", "spiece", "sentencepiece")
"""How the files begin from which a tokenizer can be read."""


@stage_task("adopt")
def adopt(source: str, *, role: Role, pipeline: PipelineRun, adapter: str = "") -> StageRef:
    """Publish a model from elsewhere, complete: pad token, role tokens, chat template.

    Args:
        source: A local folder, or a hub id, `id@revision` for another than the main branch.
        role: What it is used as, and the name of its stage; a reward model has a score head.
        adapter: Folder or hub id of a LoRA adapter to merge into a language model; empty for none.

    Raises:
        ModelError: The model cannot be found or is not what the role needs.
    """
    folder = named_folder(source)
    if folder is not None:
        content = _folder_digest(folder, role)
        where, commit = str(folder), None
    else:
        where, _, revision = source.partition("@")
        commit = _hub_commit(where, revision, role)
        content = f"{where}@{commit}"

    external = {"model": content}
    if adapter:
        from models.adoption.merging import adapter_files  # imports torch

        added = adapter_files(adapter)
        external["adapter"] = _digest(added, (ADAPTER_CONFIG, ADAPTER_WEIGHTS))

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.adoption.adopt import adopt_model, adopt_reward_model  # imports torch

        if adapter:
            return adopt_model(where, commit, work.out / "model", adapter=added)
        take = adopt_reward_model if role in ("reward", "judge") else adopt_model
        return take(where, commit, work.out / "model")

    spec = StageSpec(name=role, module=__name__, parameters={role: {}}, external=external)
    return run_stage(spec, pipeline, learn)


def named_folder(name: str) -> Path | None:
    """The folder of a name, perhaps below a user's; None where there is none."""
    try:
        folder = Path(name).expanduser()
        return folder if name and folder.is_dir() else None  # no name would be the current folder
    except (OSError, RuntimeError, ValueError):  # too long; a user that nobody knows; a NUL
        return None


def _folder_digest(folder: Path, role: Role) -> str:
    names = model_files(folder)
    _want_model_files(str(folder), names, role)
    return _digest(folder, names)


def _digest(folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\n{file_digest(folder / name)}\n".encode())
    return digest.hexdigest()


def _hub_commit(source: str, revision: str, role: Role) -> str:
    try:
        info = HfApi().model_info(source, revision=revision or None)
    except Exception as error:  # the client raises errors of several libraries
        raise ModelError(
            f"{role} model {source!r} is neither a folder here nor a model that the hub gives "
            f"({error}); give stage/digest, models:/NAME@ALIAS, an existing folder, or a hub id "
            "such as HuggingFaceTB/SmolLM2-135M"
        ) from error
    _want_model_files(source, {file.rfilename for file in info.siblings or []}, role)
    return str(info.sha)


def _want_model_files(source: str, names: Collection[str], role: Role) -> None:
    """Look at the list of files before gigabytes are read."""
    refuse_unfit(f"{role} model {source}", names)
    wanted = {
        "config.json": "config.json" in names,
        "safetensors weights": any(name.endswith(".safetensors") for name in names),
        "tokenizer": any(name.startswith(TOKENIZER_FILES) for name in names),
    }
    missing = [what for what, there in wanted.items() if not there]
    if missing:
        shown = ", ".join(sorted(names)[:6]) or "no file"
        raise ModelError(
            f"{role} model {source} has no {', no '.join(missing)}; got {shown}; wanted a model "
            "folder with config.json, safetensors weights and a tokenizer: convert it with "
            "save_pretrained, or name the folder inside that holds them"
        )
