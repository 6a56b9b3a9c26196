"""Reads datasets of the Hugging Face hub, in memory that does not grow with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.errors import DataError
from models.files import listed, reading, shorten, shown
from tasks.data.formats import Collection, Row
from tasks.data.reading.columnar import BATCH_ROWS, for_json

# Some datasets hold several stages, with splits such as train_sft and test_prefs.
_SUFFIXES: dict[Collection, str] = {"demonstrations": "_sft", "preferences": "_prefs"}
HELD_OUT = ("test", "validation", "valid", "val", "dev", "eval", "heldout")
"""Names of what is held out: of splits, the first one that there is, and in those of files."""


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of one split, which lies on disk and is read while they are iterated."""

    hub_id: str
    split: Any

    def __iter__(self) -> Iterator[Row]:
        for table in self.split.with_format("arrow").iter(BATCH_ROWS):
            with reading(f"hub dataset {self.hub_id}", "rows of plain values"):
                rows: list[Row] = [for_json(row) for row in table.to_pylist()]
            yield from rows


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSplits:
    """Rows of the training split and, if there is one, of the held-out split."""

    train_name: str
    train: SplitRows
    heldout_name: str
    heldout: SplitRows | None


def resolve_commit(hub_id: str, revision: str) -> str:
    """The hub's current commit of a revision; empty is the main branch.

    Raises:
        DataError: If the hub cannot be reached or knows no such dataset or revision.
    """
    from huggingface_hub import HfApi  # slow to import, and needed for hub sources only

    name = hub_id.partition(":")[0]
    try:
        return str(HfApi().dataset_info(name, revision=revision or None).sha)
    except Exception as error:  # the client raises errors of several libraries
        raise _unreachable(hub_id, revision, error) from error


def load_splits(hub_id: str, revision: str, collection: Collection) -> HubSplits:
    """Load a dataset's rows for one collection.

    Args:
        hub_id: Hub id ``owner/name``, or ``owner/name:config`` of a dataset with several.
        revision: Branch, tag or commit; empty is the main branch.
        collection: Some datasets have splits of their own for each.

    Raises:
        DataError: If it cannot be loaded or has no training split.
    """
    from datasets import load_dataset  # slow to import, and needed for hub sources only

    name, _, config = hub_id.partition(":")
    commit = resolve_commit(hub_id, revision)
    try:
        splits = load_dataset(name, config or None, revision=commit)
    except Exception as error:  # the library lets errors of several others through
        _refuse_choice(name, config, commit)
        raise _unreachable(hub_id, revision, error) from error
    suffix = _SUFFIXES.get(collection, "")
    train = next((one for one in (f"train{suffix}", "train") if one in splits), None)
    wanted = (*(f"{one}{suffix}" for one in HELD_OUT), *HELD_OUT)
    heldout = next((one for one in wanted if one in splits), None)
    if train is None:
        raise DataError(
            f"hub dataset {hub_id} for {collection}: got splits {listed(list(splits))}; wanted one "
            "named train; choose another dataset"
        )
    return HubSplits(
        train_name=train,
        train=SplitRows(hub_id, splits[train]),
        heldout_name=heldout or "",
        heldout=SplitRows(hub_id, splits[heldout]) if heldout else None,
    )


def _refuse_choice(name: str, config: str, commit: str) -> None:
    """Refuse an id without a configuration, where there are several, or with a wrong one.

    Raises:
        DataError: It is one.
    """
    from datasets import get_dataset_config_names

    try:
        names = get_dataset_config_names(name, revision=commit)
    except Exception:  # the dataset cannot be loaded for another reason, which is told
        return
    if config not in names and len(names) > 1:
        got = f"no configuration {shown(config)}" if config else "none named"
        raise DataError(
            f"hub dataset {shown(name)} has several configurations ({listed(names)}); got {got}, "
            f"wanted one of them; name it behind a colon: {shown(name)}:{shown(names[0])}"
        )


def _unreachable(hub_id: str, revision: str, error: Exception) -> DataError:
    return DataError(
        f"hub dataset {shown(hub_id)} at revision {shown(revision or 'main')} cannot be loaded; "
        f"got {type(error).__name__}: {shorten(str(error), 400)}; wanted a public dataset and a "
        "network; correct the id or its @REVISION, or check the connection"
    )
