"""Reads raw rows from the configured source: the world, a folder of files, or the hub.

First step of preparation; rows stay as they are in their files. A folder holds, each
with any ending of `files.ENDINGS` (`sft.jsonl.gz`, `sft.csv`, …):

    pretrain       for a base model of one's own, or PPO's pretraining mix   -> corpus
    sft            needed   prompt + completion, or messages                 -> demonstrations
    pairs_train    needed   prompt + chosen + rejected, or chosen + rejected -> preferences
    pairs_test     optional the same; otherwise a share of pairs_train is held out
    prompts_train  optional prompts to roll out; otherwise those of sft
    prompts_test   optional held-out prompts; otherwise a share is held out

Other files are ignored.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import DataError
from models.files import digest_file, listed, reading, shown, user_path
from tasks.data.config import DataConfig
from tasks.data.files import ENDINGS, open_rows
from tasks.data.formats import Collection, Row
from tasks.data.hub import load_splits, resolve_commit
from tasks.data.limits import local_files, most_bytes
from tasks.world.generate import generate_world

_CORPUS = "pretrain"
_NEEDED = ("sft", "pairs_train")
_WITHOUT_CORPUS = (
    "do without by naming a model in base.source, with ppo.ptx_coef=0 (no pretraining mix)"
)
_OPTIONAL = ("pairs_test", "prompts_train", "prompts_test")
_TRAIN_STEMS: tuple[tuple[Collection, str], ...] = (
    ("corpus", "pretrain"),
    ("demonstrations", "sft"),
    ("preferences", "pairs_train"),
    ("prompts", "prompts_train"),
)
_HELDOUT_STEMS: tuple[tuple[Collection, str], ...] = (
    ("preferences", "pairs_test"),
    ("prompts", "prompts_test"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """Rows of one file or hub split as they were read, and its name."""

    label: str
    rows: Iterable[Row]
    source: str = ""
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """Rows of a source by collection; what it lacks is derived later, in `build`."""

    train: dict[Collection, list[RawRows]]
    heldout: dict[Collection, list[RawRows]]
    contrasts: list[Row] = field(default_factory=list)


def read_raw(config: DataConfig, seed: int) -> RawData:
    """Read all rows of the configured source.

    Args:
        config: What to read.
        seed: Root seed, used by the world only.

    Raises:
        DataError: If a folder, file, hub dataset or line is missing or cannot be read.
    """
    if config.source == "world":
        return _read_world(config, seed)
    if config.source == "folder":
        files = _found_files(config)

        def opened(stem: str) -> list[RawRows]:
            rows = open_rows(files[stem], encoding=config.encoding, text=config.text)
            size = files[stem].stat().st_size
            return [RawRows(label=rows.label, rows=rows, bytes=size)]

        return RawData(
            train={each: opened(stem) for each, stem in _TRAIN_STEMS if stem in files},
            heldout={each: opened(stem) for each, stem in _HELDOUT_STEMS if stem in files},
        )
    return _read_hub(config)


def corpus_weights(config: DataConfig) -> dict[str, float]:
    """Sampling weights by source of the corpus; none where all is taken as it is."""
    return {}


def fingerprint(config: DataConfig) -> str:
    """The sha256 of a source's content in hexadecimal, for the stage's digest.

    It is made of the names and bytes of the files of a folder that are read; of a hub dataset's id
    and current commit; and of a constant for the world, which is code.

    Raises:
        DataError: If a folder or a needed file is missing, or the hub does not know an id.
    """
    if config.source == "world":
        return hashlib.sha256(b"world").hexdigest()
    if config.source == "folder":
        return _files_digest(_found_files(config).values())
    digest = hashlib.sha256(b"hub")
    for collection, hub_id in _hub_ids(config).items():
        local = user_path(hub_id)
        if local.is_dir():
            name = _files_digest(local_files(local))
        else:
            owner_name, _, revision = hub_id.partition("@")
            name = f"{owner_name}@{resolve_commit(owner_name, revision)}"
        digest.update(f"\0{collection}\0{name}".encode())
    return digest.hexdigest()


def require_corpus(config: DataConfig) -> None:
    """Refuse a source without texts to pretrain on.

    Raises:
        DataError: It has none.
    """
    if config.source == "folder":
        folder_files(user_path(config.folder))
    elif config.source == "sources" and not config.corpus:
        raise DataError(
            "data.corpus is empty, so there are no texts to pretrain on; wanted a dataset's "
            f"id; {_WITHOUT_CORPUS}"
        )


def _files_digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = digest_file(path, most_bytes=most_bytes())
        digest.update(os.fsencode(path.name) + f"\0{content}\0".encode())
    return digest.hexdigest()


def folder_files(folder: Path, *, corpus: bool = True) -> dict[str, Path]:
    """Find the files of a folder that are read, by stem, in the order of the layout.

    Args:
        folder: The data folder.
        corpus: Whether the texts to pretrain on are needed.

    Raises:
        DataError: If the folder or a needed file is missing, or a stem has several files.
    """
    needed = (_CORPUS, *_NEEDED) if corpus else _NEEDED
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise DataError(
            f"data folder {shown(folder)}: got {got}; wanted a directory with {', '.join(needed)} "
            "files; correct data.folder"
        )
    with reading(f"data folder {folder}", "a directory that can be read"):
        entries = {path.name: path.is_file() for path in sorted(folder.iterdir())}
    names = [name for name, is_file in entries.items() if is_file]
    found: dict[str, Path] = {}
    for stem in (_CORPUS, *_NEEDED, *_OPTIONAL):
        matches = [name for name in names if name in {stem + ending for ending in ENDINGS}]
        if len(matches) > 1:
            raise DataError(
                f"data folder {shown(folder)}: got {len(matches)} files for {stem} "
                f"({', '.join(matches)}); wanted one; remove or rename the others"
            )
        if matches:
            found[stem] = folder / matches[0]
    missing = [stem for stem in needed if stem not in found]
    if missing:
        others = [f"{name} (no regular file)" for name, is_file in entries.items() if not is_file]
        raise DataError(
            f"data folder {shown(folder)}: no file for {', '.join(missing)}; got "
            f"{listed(names + others) or 'an empty folder'}; wanted {missing[0]} with one of the "
            f"endings {' '.join(ENDINGS)}; add or rename the file"
            + (f", or {_WITHOUT_CORPUS}" if missing == [_CORPUS] else "")
        )
    return found


def _found_files(config: DataConfig) -> dict[str, Path]:
    return folder_files(user_path(config.folder), corpus=False)


def _hub_ids(config: DataConfig) -> dict[Collection, str]:
    ids: dict[Collection, str] = {
        "corpus": config.corpus,
        "demonstrations": config.demonstrations,
        "preferences": config.preferences,
        "prompts": config.prompts,
    }
    return {collection: hub_id for collection, hub_id in ids.items() if hub_id}


def _read_hub(config: DataConfig) -> RawData:
    train: dict[Collection, list[RawRows]] = {}
    heldout: dict[Collection, list[RawRows]] = {}
    for collection, hub_id in _hub_ids(config).items():
        owner_name, _, revision = hub_id.partition("@")
        splits = load_splits(owner_name, revision, collection)
        train[collection] = [RawRows(label=f"{hub_id} {splits.train_name}", rows=splits.train)]
        if splits.heldout:
            label = f"{hub_id} {splits.heldout_name}"
            heldout[collection] = [RawRows(label=label, rows=splits.heldout)]
    return RawData(train=train, heldout=heldout)


def _read_world(config: DataConfig, seed: int) -> RawData:
    world = generate_world(config.world, seed)

    def given(rows: list[Row], label: str = "world") -> list[RawRows]:
        return [RawRows(label=label, rows=rows)]

    return RawData(
        train={
            "corpus": given(world.corpus),
            "demonstrations": given(world.demonstrations),
            "preferences": given(world.preferences),
            "prompts": given(world.prompts),
        },
        heldout={
            "preferences": given(world.heldout_preferences, "world held out"),
            "prompts": given(world.heldout_prompts, "world held out"),
        },
        contrasts=world.contrasts,
    )
