"""Weights of a corpus's sources: how often each document stands in the training texts.

The bytes of the sources stand to each other as the weights do, and their sum stays what it is. So
some sources are repeated, as a whole and then in part, and others are only taken in part; which
part is decided by the documents' content. Held-out documents are never repeated.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.files import shown
from tasks.data.split import Keys
from tasks.data.spools.selection import Selection
from tasks.data.tally import Tally

MOST_EPOCHS = 1000

# Spreads hashes anew: the split has taken the lowest ones away.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def mix(documents: Selection, weights: Mapping[str, float], tally: Tally) -> Selection:
    """Repeat or thin out the documents of each source.

    Args:
        documents: Training documents, each once.
        weights: By source, as `FileTally.source` names it; without any, all stays as it is.
        tally: Gets the epochs of every file, and how many rows came in addition.

    Raises:
        DataError: A source has no document left, or would be repeated too often.
    """
    if not weights:
        return documents
    spool = documents.spool
    rows: dict[str, NDArray[np.bool_]] = {
        source: np.zeros(len(spool), np.bool_) for source in weights
    }
    for file, which in spool.files():
        rows[file.source][which] = documents.taken[which]
    sizes = spool.sizes
    total = int(sizes[documents.taken].sum())
    times = documents.times.copy()
    for source, mask in rows.items():
        there = int(sizes[mask].sum())
        wanted = total * weights[source] / sum(weights.values())
        if not there or wanted > MOST_EPOCHS * there:
            raise DataError(
                f"data.corpus: {shown(source)} has {there:,} bytes of training texts, and weight "
                f"{weights[source]:g} wants {wanted:,.0f}; wanted at most {MOST_EPOCHS:,} "
                "epochs of it; lower its weight, leave it out or add texts"
            )
        times[mask] = _times(spool.contents[mask], sizes[mask], wanted)
        epochs = float((sizes[mask] * times[mask]).sum() / there)
        for file in tally.files:
            if file.source == source:
                file.epochs = epochs
    mixed = Selection(spool, times)
    tally.repeated += len(mixed) - len(documents)
    return mixed


def _times(contents: Keys, sizes: NDArray[np.int64], wanted: float) -> NDArray[np.uint16]:
    """All documents as often as they fit as a whole, then those of the lowest hashes."""
    whole, rest = divmod(wanted, float(sizes.sum()))
    order = np.argsort(contents * _SPREAD, kind="stable")
    times = np.full(len(sizes), int(whole), np.uint16)
    times[order[: np.searchsorted(np.cumsum(sizes[order]), rest + 0.5, side="right")]] += 1
    return times
