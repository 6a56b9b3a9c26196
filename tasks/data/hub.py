"""Datasets of the Hugging Face hub: the only part of preparation that uses the network.

Only an id that the parameters name is loaded, and no code of a dataset is ever run. A local
directory in place of an id is loaded in the same way.
"""

from dataclasses import dataclass
from pathlib import Path

from models.errors import DataError
from tasks.data.formats import Collection, Row

# Some datasets hold several stages, with splits such as train_sft and test_prefs.
_SUFFIXES: dict[Collection, str] = {"demonstrations": "_sft", "preferences": "_prefs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSplits:
    """Rows of the split to learn from and, where there is one, of the held-out split."""

    train_name: str
    train: list[Row]
    heldout_name: str
    heldout: list[Row]


def resolve_commit(hub_id: str, revision: str) -> str:
    """Ask the hub which commit a revision stands for now; empty is the main branch.

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
        collection: What the rows are for: datasets may have splits of their own for each.

    Raises:
        DataError: If it cannot be loaded or has no split to learn from.
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
