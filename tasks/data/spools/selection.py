"""Which rows of the spools are written: duplicates, held-out rows and overlaps, by hashes.

Stands between `spool` and `build`. What is dropped here is counted in the tally of its collection
and of its file, with examples.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.data.formats import Collection, Row
from tasks.data.split import (
    Keys,
    Mask,
    among,
    both_directions,
    content_key,
    first_of_equals,
    group_key,
    hashed,
    held_out,
)
from tasks.data.spools.spool import TIED, TURNED, Spool
from tasks.data.tally import BOTH_DIRECTIONS, DUPLICATE, HELD_OUT, MOST_EXAMPLES, Tally

# A pair that one person calls a tie and another does not is two different judgements.
_TIE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a spool.

    Attributes:
        times: How often each row is taken; weights take some more than once.
    """

    spool: Spool
    times: NDArray[np.uint16]

    @classmethod
    def all_of(cls, spool: Spool) -> "Selection":
        """Take each row once."""
        return cls(spool, np.ones(len(spool), np.uint16))

    def __len__(self) -> int:
        return int(self.times.sum(dtype=np.int64))

    @property
    def taken(self) -> Mask:
        """Which rows are taken at all."""
        return self.times > 0

    @property
    def groups(self) -> Keys:
        """Hashes of the texts or prompts of the rows taken."""
        return self.spool.groups[self.taken]

    @property
    def contents(self) -> Keys:
        """Hashes of the contents of the rows taken."""
        return self.spool.contents[self.taken]

    def without(self, mask: Mask) -> "Selection":
        """All rows but some."""
        return Selection(self.spool, np.where(mask, np.uint16(0), self.times))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Read the rows taken, with their index in the spool."""
        for index, line in self.spool.lines(self.times):
            yield index, json.loads(line)

    def write(self, path: Path) -> None:
        """Write the rows taken as JSON lines."""
        with path.open("wb") as file:
            file.writelines(line for _, line in self.spool.lines(self.times))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Training and held-out rows, each in the order of the source."""

    train: Selection
    heldout: Selection

    def lengths(self) -> dict[str, NDArray[np.uint32]]:
        """Characters of the texts of each column, of both sides; none without rows."""
        parts = [(each.spool.lengths, each.taken) for each in (self.train, self.heldout)]
        columns = dict.fromkeys(column for lengths, _ in parts for column in lengths)
        return {
            column: found
            for column in columns
            if len(
                found := np.concatenate(
                    [
                        np.frombuffer(lengths[column], np.uint32)[taken]
                        for lengths, taken in parts
                        if column in lengths
                    ]
                )
            )
        }


def drop(
    selection: Selection, mask: Mask, reason: str, tally: Tally, shown: Mask | None = None
) -> Selection:
    """Drop rows of a selection, count them and show some.

    Args:
        shown: Which rows are examples; by default the first ones dropped.
    """
    mask = mask & selection.taken
    tally.drop(reason, int(mask.sum()))
    spool = selection.spool
    for file, rows in spool.files():
        if count := int(mask[rows].sum()):
            file.dropped[reason] += count
    for index in np.flatnonzero(mask if shown is None else shown)[:MOST_EXAMPLES]:
        tally.show(reason, *spool.origin(int(index)), spool.row(int(index)))
    return selection.without(mask)


def drop_duplicates(selection: Selection, tally: Tally) -> Selection:
    """Keep the first of equal rows; of a pair that stands in both directions keep neither.

    Such a pair is a tie: its two rows cancel out, and which came first means nothing. A pair that
    is marked as a tie has no direction, so turned it is the same row again.
    """
    spool = selection.spool
    if not len(spool):
        return selection
    keys = spool.contents
    if spool.collection != "preferences":
        return drop(selection, ~first_of_equals(keys), DUPLICATE, tally)
    tied = (spool.flags & TIED) > 0
    keys = np.where(tied, keys ^ _TIE, keys)
    both, shown = both_directions(keys, (spool.flags & TURNED) > 0)
    # Copies of such a pair are duplicates: two rows a pair are what stands in both directions.
    kept = drop(selection, ~first_of_equals(keys) & ~shown, DUPLICATE, tally)
    return drop(kept, both & kept.taken, BOTH_DIRECTIONS, tally, shown)


def split(selection: Selection, fraction: float) -> Sides:
    """Hold out a share of the rows taken, see `split.held_out`."""
    held = np.zeros(len(selection.times), np.bool_)
    held[selection.taken] = held_out(selection.groups, fraction)
    return Sides(train=selection.without(held), heldout=selection.without(~held))


def drop_overlap(sides: Sides, tally: Tally) -> Sides:
    """Drop the training rows whose content is held out."""
    held = among(sides.train.spool.contents, sides.heldout.contents)
    return Sides(train=drop(sides.train, held, HELD_OUT, tally), heldout=sides.heldout)


def cross_overlaps(
    datasets: Mapping[Collection, Sides], heldout_pairs: Iterable[Row]
) -> dict[str, int]:
    """Count held-out rows whose content stands in the training rows of another collection.

    They are counted, not dropped: a prompt met in training is a fair test of a policy, and only
    the user knows whether a text met in pretraining spoils a test.

    Args:
        heldout_pairs: The held-out rows of the preferences.
    """
    demonstrations, prompts = datasets["demonstrations"].train, datasets["prompts"].heldout.groups
    shown: list[tuple[int, int]] = []
    texts: list[tuple[int, int]] = []
    for pair in heldout_pairs:
        rows = [
            {"prompt": pair["prompt"], "completion": pair[side]} for side in ("chosen", "rejected")
        ]
        shown.append(_two(hashed(content_key("demonstrations", row)) for row in rows))
        texts.append(_two(hashed(group_key("corpus", {"text": _joined(row)})) for row in rows))
    return {
        "held-out prompts also in training demonstrations": int(
            among(prompts, demonstrations.groups).sum()
        ),
        "held-out prompts also in training preferences": int(
            among(prompts, datasets["preferences"].train.groups).sum()
        ),
        "held-out pairs with a completion also in training demonstrations": _met(
            shown, demonstrations.contents
        ),
        "held-out pairs with a text also in the training corpus": _met(
            texts, datasets["corpus"].train.contents
        ),
    }


def _two(keys: Iterable[int]) -> tuple[int, int]:
    first, second = keys
    return first, second


def _met(pairs: list[tuple[int, int]], known: Keys) -> int:
    keys = np.array(pairs, np.uint64).reshape(-1, 2)
    return int((among(keys[:, 0], known) | among(keys[:, 1], known)).sum())


def _joined(row: Row) -> str:
    """Join prompt and completion into the running text that a corpus would hold."""
    parts = (row["prompt"], row["completion"])
    return "".join(part if isinstance(part, str) else part[-1]["content"] for part in parts)
