"""Which rows are held out: decided by their content, never by position or at random.

Where the split is made here, a prompt is on the same side in demonstrations, preferences and
prompts, because its hash alone decides; adding or reordering rows moves no other row across. Where
the user gives held-out files, each is kept out of its own collection; prompts that other
collections share with it are counted in the report.

Rows are known by hashes here (`spool` says how sure they are).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.formats import Collection

Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def group_key(collection: Collection, row: Mapping[str, Any]) -> str:
    """Key of what must be on one side: the text of a corpus row, the prompt of any other."""
    return _canonical(row["text" if collection == "corpus" else "prompt"])


def content_key(collection: Collection, row: Mapping[str, Any]) -> str:
    """Key of a row's whole content; a pair has the same one whichever was chosen."""
    if collection == "demonstrations":
        return _canonical([row["prompt"], row["completion"]])
    if collection == "preferences":
        pair = sorted((_canonical(row["chosen"]), _canonical(row["rejected"])))
        return _canonical([row["prompt"], *pair])
    return group_key(collection, row)


def is_turned(pair: Mapping[str, Any]) -> bool:
    """Which of the two directions a pair stands in."""
    return _canonical(pair["chosen"]) > _canonical(pair["rejected"])


def hashed(key: str) -> int:
    """The first eight bytes of a key's sha256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def among(keys: Keys, known: Keys) -> Mask:
    """Which keys are among the known ones."""
    if not len(known):
        return np.zeros(len(keys), np.bool_)
    known = np.sort(known)
    places = np.searchsorted(known, keys)
    places[places == len(known)] = 0
    found: Mask = known[places] == keys
    return found


def first_of_equals(keys: Keys) -> Mask:
    """Which keys stand there for the first time."""
    first = np.zeros(len(keys), np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def both_directions(keys: Keys, turned: Mask) -> tuple[Mask, Mask]:
    """Find pairs that stand in both directions: ties, whose two rows cancel out.

    Returns:
        All rows of such pairs, and the two of each that show it: the first one, and the first one
        in the other direction.
    """
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    against = np.flatnonzero(turned != turned[first][group])
    groups, seen = np.unique(group[against], return_index=True)
    shown = np.zeros(len(keys), np.bool_)
    shown[first[groups]] = shown[against[seen]] = True
    tied = np.zeros(len(first), np.bool_)
    tied[groups] = True
    return tied[group], shown


def held_out(groups: Keys, fraction: float) -> Mask:
    """Hold out the groups whose hash, as a fraction of the largest one, is below a fraction.

    The training side is never empty, and with at least two groups neither is: where the threshold
    would leave a side empty, the group of highest hash trains, that of lowest hash is held out.

    Args:
        groups: Hash of each row's group.
        fraction: Expected share of groups held out, in (0, 1).
    """
    positions = groups.astype(np.float64) / 2**64
    held = positions < fraction
    if held.any() and held.all():
        held = groups != groups[positions.argmax()]
    if not held.any() and (groups != groups[:1]).any():
        held = groups == groups[positions.argmin()]
    return held
