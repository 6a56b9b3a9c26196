"""Reads datasets of the Hugging Face hub, or a local folder of such files in place of an id."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.files import reading, shorten, shown, user_path
from tasks.data.formats import Collection, Row
from tasks.data.limits import Guard, local_files

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

    local = user_path(hub_id)
    if local.is_dir():
        local_files(local)
    commit = None if local.is_dir() else resolve_commit(hub_id, revision)
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
        train=_rows(splits[train], hub_id),
        heldout_name=heldout or "",
        heldout=_rows(splits[heldout], hub_id) if heldout else [],
    )


def _rows(split: Any, hub_id: str) -> list[Row]:
    Guard(Path(hub_id)).count(split.data.nbytes, rows=split.num_rows)
    with reading(f"hub dataset {hub_id}", "rows of plain values"):
        rows: list[Row] = split.to_list()
    return rows


def _unreachable(hub_id: str, revision: str, error: Exception) -> DataError:
    return DataError(
        f"hub dataset {shown(hub_id)} at revision {shown(revision or 'main')} cannot be loaded; "
        f"got {type(error).__name__}: {shorten(str(error), 400)}; wanted a public dataset and a "
        "network; correct the id or its @REVISION, or check the connection"
    )
