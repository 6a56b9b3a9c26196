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
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.files import ENDINGS, read_file
from tasks.data.formats import Collection, Row
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
    rows: list[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """Rows of a source; what it lacks is derived later, in `build`."""

    train: dict[Collection, RawRows]
    heldout: dict[Collection, RawRows]
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
        rows = {
            stem: RawRows(label=path.name, rows=read_file(path)) for stem, path in files.items()
        }
        return RawData(
            train={collection: rows[stem] for collection, stem in _TRAIN_STEMS if stem in rows},
            heldout={collection: rows[stem] for collection, stem in _HELDOUT_STEMS if stem in rows},
        )
    return _read_hub(config)


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
        local = Path(hub_id)
        if local.is_dir():
            name = _files_digest(path for path in local.rglob("*") if path.is_file())
        else:
            name = f"{hub_id}@{resolve_commit(hub_id, config.hub_revision)}"
        digest.update(f"\0{collection}\0{name}".encode())
    return digest.hexdigest()


def require_corpus(config: DataConfig) -> None:
    """Refuse a source without texts to pretrain on.

    Raises:
        DataError: It has none.
    """
    if config.source == "folder":
        folder_files(Path(config.folder).expanduser())
    elif config.source == "hub" and not config.hub_corpus:
        raise DataError(
            "data.hub_corpus is empty, so there are no texts to pretrain on; wanted a dataset's "
            f"id; {_WITHOUT_CORPUS}"
        )


def _files_digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name}\0{content}\0".encode())
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
            f"data folder {folder}: got {got}; wanted a directory with {', '.join(needed)} "
            "files; correct data.folder"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found: dict[str, Path] = {}
    for stem in (_CORPUS, *_NEEDED, *_OPTIONAL):
        matches = [name for name in names if name in {stem + ending for ending in ENDINGS}]
        if len(matches) > 1:
            raise DataError(
                f"data folder {folder}: got {len(matches)} files for {stem} "
                f"({', '.join(matches)}); wanted one; remove or rename the others"
            )
        if matches:
            found[stem] = folder / matches[0]
    missing = [stem for stem in needed if stem not in found]
    if missing:
        raise DataError(
            f"data folder {folder}: no file for {', '.join(missing)}; got "
            f"{', '.join(names) or 'an empty folder'}; wanted {missing[0]} with one of the endings "
            f"{' '.join(ENDINGS)}; add or rename the file"
            + (f", or {_WITHOUT_CORPUS}" if missing == [_CORPUS] else "")
        )
    return found


def _found_files(config: DataConfig) -> dict[str, Path]:
    return folder_files(Path(config.folder).expanduser(), corpus=False)


def _hub_ids(config: DataConfig) -> dict[Collection, str]:
    ids: dict[Collection, str] = {
        "corpus": config.hub_corpus,
        "demonstrations": config.hub_demonstrations,
        "preferences": config.hub_preferences,
        "prompts": config.hub_prompts,
    }
    return {collection: hub_id for collection, hub_id in ids.items() if hub_id}


def _read_hub(config: DataConfig) -> RawData:
    train: dict[Collection, RawRows] = {}
    heldout: dict[Collection, RawRows] = {}
    for collection, hub_id in _hub_ids(config).items():
        splits = load_splits(hub_id, config.hub_revision, collection)
        train[collection] = RawRows(label=f"{hub_id} {splits.train_name}", rows=splits.train)
        if splits.heldout:
            label = f"{hub_id} {splits.heldout_name}"
            heldout[collection] = RawRows(label=label, rows=splits.heldout)
    return RawData(train=train, heldout=heldout)


def _read_world(config: DataConfig, seed: int) -> RawData:
    world = generate_world(config.world, seed)
    return RawData(
        train={
            "corpus": RawRows(label="world", rows=world.corpus),
            "demonstrations": RawRows(label="world", rows=world.demonstrations),
            "preferences": RawRows(label="world", rows=world.preferences),
            "prompts": RawRows(label="world", rows=world.prompts),
        },
        heldout={
            "preferences": RawRows(label="world held out", rows=world.heldout_preferences),
            "prompts": RawRows(label="world held out", rows=world.heldout_prompts),
        },
        contrasts=world.contrasts,
    )


# Some datasets hold several stages, with splits such as train_sft and test_prefs.
_SUFFIXES: dict[Collection, str] = {"demonstrations": "_sft", "preferences": "_prefs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSplits:
    """Rows of the training split and, if there is one, of the held-out split."""

    train_name: str
    train: list[Row]
    heldout_name: str
    heldout: list[Row]


def resolve_commit(hub_id: str, revision: str) -> str:
    """The hub's current commit of a revision; empty is the main branch.

    Raises:
        DataError: If the hub cannot be reached or knows no such dataset or revision.
    """
    from huggingface_hub import HfApi  # slow to import, and needed for hub sources only

    try:
        return str(HfApi().dataset_info(hub_id, revision=revision or None).sha)
    except Exception as error:  # the client raises errors of several libraries
        raise _unreachable(hub_id, revision, error) from error


def load_splits(hub_id: str, revision: str, collection: Collection) -> HubSplits:
    """Load a dataset's rows for one collection.

    Args:
        hub_id: Hub id ``owner/name``, or a local directory of data files.
        revision: Branch, tag or commit; empty is the main branch.
        collection: Some datasets have splits of their own for each.

    Raises:
        DataError: If it cannot be loaded or has no training split.
    """
    from datasets import load_dataset  # slow to import, and needed for hub sources only

    commit = None if Path(hub_id).is_dir() else resolve_commit(hub_id, revision)
    try:
        splits = load_dataset(hub_id, revision=commit)
    except Exception as error:  # the library lets errors of several others through
        raise _unreachable(hub_id, revision, error) from error
    suffix = _SUFFIXES.get(collection, "")
    train = next((name for name in (f"train{suffix}", "train") if name in splits), None)
    wanted = (f"test{suffix}", "test", "validation")
    heldout = next((name for name in wanted if name in splits), None)
    if train is None:
        raise DataError(
            f"hub dataset {hub_id} for {collection}: got splits {', '.join(splits)}; wanted one "
            "named train; choose another dataset"
        )
    return HubSplits(
        train_name=train,
        train=splits[train].to_list(),
        heldout_name=heldout or "",
        heldout=splits[heldout].to_list() if heldout else [],
    )


def _unreachable(hub_id: str, revision: str, error: Exception) -> DataError:
    return DataError(
        f"hub dataset {hub_id} at revision {revision or 'main'} cannot be loaded; got "
        f"{type(error).__name__}: {error}; wanted a public dataset and a network; correct the id "
        "or data.hub_revision, or check the connection"
    )
