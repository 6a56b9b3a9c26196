"""What is read for which collection, and the digest of its content: world, files and the hub.

First step of preparation; rows stay as they are in their files. What a data folder holds is said in
`folders`, what sources named one by one mean in `named`.
"""

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from models.errors import DataError
from models.files import digest_file, user_path
from tasks.data.config import DataConfig
from tasks.data.files import open_rows
from tasks.data.folders import WITHOUT_CORPUS, folder_files, found_in
from tasks.data.formats import Collection, Row
from tasks.data.hub import load_splits, resolve_commit
from tasks.data.named import Found, NamedSource, fields, find
from tasks.world.generate import generate_world


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """Rows of one file or hub split as they were read, and its name.

    Attributes:
        source: What named it, see `SourceReport`.
        bytes: Of the file; 0 if not known.
        notes: What had to be decided to find it.
    """

    collection: Collection
    heldout: bool
    label: str
    rows: Iterable[Row]
    source: str = ""
    bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """Rows of a source; what it lacks is derived later, in `build`."""

    parts: list[RawRows]
    contrasts: list[Row] = field(default_factory=list)


def read_raw(config: DataConfig, seed: int) -> RawData:
    """Open the configured source; files are read while their rows are iterated.

    Args:
        config: What to read.
        seed: Root seed, used by the world only.

    Raises:
        DataError: If a folder, file or hub dataset is missing or cannot be read.
    """
    if config.source == "world":
        return _read_world(config, seed)
    parts = [_opened(config, found) for found in found_files(config)]
    return RawData(parts=parts + _read_hub(config))


def fingerprint(config: DataConfig) -> str:
    """The sha256 of a source's content in hexadecimal, for the stage's digest.

    It is made of the names and bytes of the files that are read, and what each is read for; of a
    hub dataset's id and current commit; of weights; and of a constant for the world, which is code.

    Raises:
        DataError: If a folder or a needed file is missing, or the hub does not know an id.
    """
    if config.source == "world":
        return hashlib.sha256(b"world").hexdigest()
    if config.source == "folder":
        return _files_digest(found_files(config))
    digest = hashlib.sha256(b"sources")
    for name, collection, heldout, sources in fields(config):
        for source in sources:
            if source.is_local:
                content = _files_digest(find(collection, heldout, source))
            else:
                owner_name, _, revision = source.name.partition("@")
                content = f"{owner_name}@{resolve_commit(owner_name, revision)}"
            digest.update(f"\0{name}\0{content}\0{source.weight}".encode())
    return digest.hexdigest()


def corpus_weights(config: DataConfig) -> dict[str, float]:
    """Sampling weights by source of the corpus; none where all is taken as it is."""
    if config.source != "sources":
        return {}
    given = [sources for name, _, _, sources in fields(config) if name == "corpus"]
    return {each.name: each.weight for sources in given for each in sources if each.weight}


def found_files(config: DataConfig) -> list[Found]:
    """The files that are read, without those of the hub; training files first.

    Raises:
        DataError: A folder, a file or a needed kind of files is missing.
    """
    if config.source == "world":
        return []
    if config.source == "folder":
        found = found_in(user_path(config.folder))
    else:
        found = [
            file
            for _, collection, heldout, sources in fields(config)
            for source in sources
            if source.is_local
            for file in find(collection, heldout, source)
        ]
    return sorted(found, key=lambda file: file.heldout)


def check_source(config: DataConfig, *, corpus: bool) -> None:
    """Refuse a source of which something is missing, without reading a file or asking the hub.

    Args:
        corpus: Whether texts to pretrain on are needed.

    Raises:
        DataError: A folder, a file or a needed kind of files is missing.
    """
    if config.source == "folder":
        folder_files(user_path(config.folder), corpus=corpus)
    elif config.source == "sources":
        found_files(config)
        if corpus and not config.corpus:
            raise DataError(
                "data.corpus is empty, so there are no texts to pretrain on; wanted files or a "
                f"dataset's id; {WITHOUT_CORPUS}"
            )


def uses_hub(config: DataConfig) -> bool:
    """Whether a source is a dataset of the hub."""
    given = fields(config) if config.source == "sources" else []
    return any(not source.is_local for *_, sources in given for source in sources)


def _files_digest(files: Iterable[Found]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.label):
        content = digest_file(file.path, most_bytes=sys.maxsize)
        digest.update(os.fsencode(file.label) + f"\0{content}\0".encode())
    return digest.hexdigest()


def _opened(config: DataConfig, file: Found) -> RawRows:
    return RawRows(
        collection=file.collection,
        heldout=file.heldout,
        label=file.label,
        rows=open_rows(file.path, encoding=config.encoding, text=config.text),
        source=file.source,
        bytes=file.path.stat().st_size if file.path.exists() else 0,
        notes=file.notes,
    )


def _read_hub(config: DataConfig) -> list[RawRows]:
    parts: list[RawRows] = []
    for _, collection, heldout, sources in fields(config):
        for source in sources:
            if not source.is_local:
                parts += _hub_splits(collection, heldout, source)
    return parts


def _hub_splits(collection: Collection, heldout: bool, source: NamedSource) -> list[RawRows]:
    owner_name, _, revision = source.name.partition("@")
    splits = load_splits(owner_name, revision, collection)
    parts = [(splits.train_name, splits.train, heldout)]
    if splits.heldout:
        parts = [
            *([] if heldout else parts),
            (splits.heldout_name, splits.heldout, True),
        ]
    return [
        RawRows(
            collection=collection,
            heldout=side,
            label=f"{source.name} {name}",
            rows=rows,
            source=source.name,
        )
        for name, rows, side in parts
    ]


def _read_world(config: DataConfig, seed: int) -> RawData:
    world = generate_world(config.world, seed)
    given: list[tuple[Collection, bool, list[Row]]] = [
        ("corpus", False, world.corpus),
        ("demonstrations", False, world.demonstrations),
        ("preferences", False, world.preferences),
        ("prompts", False, world.prompts),
        ("preferences", True, world.heldout_preferences),
        ("prompts", True, world.heldout_prompts),
    ]
    parts = [
        RawRows(
            collection=collection,
            heldout=heldout,
            label="world held out" if heldout else "world",
            rows=rows,
        )
        for collection, heldout, rows in given
    ]
    return RawData(parts=parts, contrasts=world.contrasts)
