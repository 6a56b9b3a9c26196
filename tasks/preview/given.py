"""What the files that somebody names are, so that they can be looked at without being told.

A folder laid out by stems (`sft`, `pairs_train`, …) says it by its names. Any other file is what
its format is made for, by its first rows; `--as` overrules that.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from models.errors import DataError, ParameterError
from models.files import listed, shown, user_path
from tasks.data.config import DataConfig
from tasks.data.files import open_rows
from tasks.data.folders import found_in
from tasks.data.formats import COLLECTIONS, Collection, Row, columns_read, recognise
from tasks.data.hub import load_splits
from tasks.data.named import NamedSource, find, quote
from tasks.data.reading.paths import expand

FIRST_ROWS = 100
"""Rows by which a file is recognised."""

BY_ROWS, BY_NAME, AS_TOLD = "its rows", "its name", "--as"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFile:
    """A file or a dataset of the hub, and what it is taken for.

    Attributes:
        label: The file's name, as the report has it.
        source: What names it in the config.
        why: What says so.
        format: What its rows are, in words.
        columns: That are read.
    """

    label: str
    source: str
    collection: Collection
    heldout: bool = False
    why: str
    format: str = ""
    columns: Sequence[str] = ()


def recognise_files(names: Sequence[str], wanted: str, config: DataConfig) -> list[GivenFile]:
    """Find the files that are meant, and what each is.

    Args:
        names: Files, folders, globs or hub ids.
        wanted: The collection that they are taken for; empty: as they are recognised.
        config: Its format, encoding and text count.

    Raises:
        ParameterError: There is no such file, dataset or collection.
        DataError: A file cannot be read, or is of no known format.
    """
    if wanted and wanted not in COLLECTIONS:
        raise ParameterError(f"--as got {wanted!r}, wanted one of {', '.join(COLLECTIONS)}")
    found = [given for name in names for given in _given(NamedSource(name), wanted, config)]
    return sorted(found, key=lambda one: (COLLECTIONS.index(one.collection), one.heldout))


def as_config(given: Sequence[GivenFile], config: DataConfig) -> DataConfig:
    """The config that reads what is given, and nothing else."""
    sources: dict[str, dict[str, None]] = {}
    for one in given:
        held_out = one.heldout and one.why == BY_NAME
        field = f"heldout_{one.collection}" if held_out else one.collection
        sources.setdefault(field, {})[one.source] = None
    fields: dict[str, Any] = {"source": "sources", "preferences": ""}
    fields |= {field: quote(names) for field, names in sources.items()}
    return config.model_copy(update=fields)  # unlike a run's, it may lack preferences


def _given(source: NamedSource, wanted: str, config: DataConfig) -> list[GivenFile]:
    if not source.is_local:
        return [_of_hub(source.name, wanted, config)]
    path = user_path(source.name)
    if path.is_dir() and not wanted:
        files = [
            _given_file(file.path, config, file.collection, BY_NAME, file.heldout)
            for file in found_in(path, whole=False)
        ]
        if files:
            return files
    paths = expand(source.name)
    if not all(one.exists() for one in paths):
        raise ParameterError(f"{shown(source.name)} is no file here; correct the path")
    files = [_given_file(one, config, wanted) for one in paths]
    kinds = {one.collection for one in files}
    if len(kinds) > 1 or len(files) == 1:
        return files
    by_path = dict(zip(paths, files, strict=True))  # one dataset: some of it may be held out
    return [
        replace(by_path[one.path], label=one.label, source=one.source, heldout=one.heldout)
        for one in find(kinds.pop(), False, source)
    ]


def _given_file(
    path: Path, config: DataConfig, wanted: str, why: str = AS_TOLD, heldout: bool = False
) -> GivenFile:
    rows = list(islice(open_rows(path, encoding=config.encoding, text=config.text), FIRST_ROWS))
    return _recognised(str(path), path.name, rows, config, wanted, why, heldout)


def _of_hub(name: str, wanted: str, config: DataConfig) -> GivenFile:
    owner_name, _, revision = name.partition("@")
    try:
        splits = load_splits(owner_name, revision, cast(Collection, wanted or "preferences"))
    except DataError as error:
        raise ParameterError(f"{shown(name)} is no file here, and {error}") from error
    rows = list(islice(splits.train, FIRST_ROWS))
    return _recognised(name, f"{name} {splits.train_name}", rows, config, wanted, AS_TOLD, False)


def _recognised(
    source: str,
    label: str,
    rows: Sequence[Row],
    config: DataConfig,
    wanted: str,
    why: str,
    heldout: bool,
) -> GivenFile:
    formats = [found for row in rows if (found := recognise(row, config)) is not None]
    if not formats and not wanted:
        columns = sorted({str(column) for row in rows for column in row})
        raise DataError(
            f"{shown(label)}: the columns fit no known format; got {listed(columns)}; wanted those "
            "of a format of tasks/README.md: name the format with --set data.format=NAME, or the "
            f"collection with --as {'|'.join(COLLECTIONS)}"
        )
    homes = Counter(found.home for found in formats)
    collection = cast(Collection, wanted or homes.most_common(1)[0][0])
    read = [column for row in rows for column in columns_read(collection, row, config)]
    return GivenFile(
        label=label,
        source=source,
        collection=collection,
        heldout=heldout,
        why=why if wanted else BY_ROWS,
        format=Counter(found.title for found in formats).most_common(1)[0][0] if formats else "",
        columns=list(dict.fromkeys(read)),
    )
