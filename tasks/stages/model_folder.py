"""A model by the name that a person gives, as a folder to use: for `quartet chat` and `serve`.

Names are those of `tasks/stages/resolve.py`. Nothing is trained here, so nothing is adopted or
recorded: a folder is used where it lies, and what else is named is found or fetched first.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ModelError, StoreError
from models.runtime import use_device
from tasks.registry.versions import download, find_version
from tasks.results.store import Store
from tasks.settings import load_settings
from tasks.stages.resolve import HUB_ID, find_stage
from tasks.tracking.client import Tracker

if TYPE_CHECKING:
    from models.language.chat import Chat, ChatOptions

PUBLISHED = re.compile(r"([a-z][\w-]*)/([0-9a-f]{1,64})")
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFolder:
    """A model folder and what to call it.

    Attributes:
        path: The folder with config, weights and tokenizer.
        name: Short, of letters, digits and `. _ -`.
    """

    path: Path
    name: str


@contextlib.contextmanager
def model_folder(name: str) -> Iterator[NamedFolder]:
    """Give a model's folder while the block lasts.

    Args:
        name: stage/digest, models:/NAME@ALIAS, models:/NAME/NUMBER, a folder, or a hub id.

    Raises:
        ModelError: There is none by that name.
        StoreError: The published stage is absent or damaged.
    """
    name = name.strip()
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        if name.startswith("models:"):
            yield _registered(name, Path(scratch))
        elif (match := PUBLISHED.fullmatch(name)) and not Path(name).is_dir():
            yield _published(match[1], match[2], f"{match[1]}-{match[2][:12]}")
        elif name and Path(name).expanduser().is_dir():
            yield _local(Path(name).expanduser())
        else:
            yield _from_hub(name)


def open_chat(folder: Path, options: "ChatOptions") -> "Chat":
    """Load a model for a conversation, on the device that the settings name.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model.
    """
    from models.language.chat import Chat  # torch: only where there is work to do

    settings = load_settings()
    return Chat(folder, options, device=use_device(settings.device, settings.threads))


def chat_options(*, temperature: float, max_tokens: int, seed: int, system: str) -> "ChatOptions":
    """Check how completions are to be drawn.

    Raises:
        ParameterError: Nothing can be sampled so.
    """
    from models.language.chat import ChatOptions

    return ChatOptions(temperature=temperature, max_tokens=max_tokens, seed=seed, system=system)


def _registered(name: str, scratch: Path) -> NamedFolder:
    tracker = Tracker(load_settings())
    version = find_version(tracker, name)
    called = re.sub(r"[^\w.-]", "-", version.name)
    if version.published is not None:
        with contextlib.suppress(StoreError):  # cleaned here: MLflow has the version's own files
            return _published(*version.published, called)
    return NamedFolder(path=download(tracker, version, scratch), name=called)


def _published(stage: str, digest: str, called: str) -> NamedFolder:
    ref = find_stage(f"{stage}/{digest}", stage)
    folder = Store(load_settings().store).folder(ref.stage, ref.digest) / "model"
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{stage}/{digest[:12]} holds no model; name a stage that trains one, such as "
            "pretrain, sft or ppo"
        )
    return NamedFolder(path=folder, name=called)


def _local(folder: Path) -> NamedFolder:
    folder = folder.resolve()
    inner = folder / "model"
    if not (folder / "config.json").is_file() and (inner / "config.json").is_file():
        folder = inner
    named = folder.parent if folder.name == "model" else folder
    return NamedFolder(path=folder, name=re.sub(r"[^\w.-]", "-", named.name)[:40] or "model")


def _from_hub(name: str) -> NamedFolder:
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{name!r} is no folder here, no stage/digest (such as ppo/3fa81c2b), no "
            "models:/NAME@ALIAS and no hub id; check the spelling"
        )
    from huggingface_hub import snapshot_download

    source, _, revision = name.partition("@")
    try:
        found = snapshot_download(source, revision=revision or None, allow_patterns=list(HUB_FILES))
    except Exception as error:  # the client raises errors of several libraries
        raise ModelError(
            f"{name!r} is neither a folder here nor a model that the hub gives ({error}); give "
            "stage/digest, models:/NAME@ALIAS, an existing folder, or a hub id"
        ) from error
    return NamedFolder(path=Path(found), name=source.rpartition("/")[2])
