"""Which rows are held out: decided by their content, never by position or at random.

Where the split is made here, a prompt is on the same side in demonstrations, preferences and
prompts, because its hash alone decides; adding or reordering rows moves no other row across. Where
the user gives held-out files, each is kept out of its own collection; prompts that other
collections share with it are counted in the report.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.data.formats import Collection, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Training and held-out rows, each in the order of the source."""

    train: list[Row]
    heldout: list[Row]


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


def _position(key: str) -> float:
    """Map a key to [0, 1) by its sha256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def split_rows(collection: Collection, rows: list[Row], fraction: float) -> Sides:
    """Hold out the groups whose hash falls below the fraction.

    The training side is never empty, and with at least two groups neither is: where the threshold
    would leave a side empty, the group of highest hash trains, that of lowest hash is held out.

    Args:
        collection: Decides what a group is, see `group_key`.
        rows: Canonical rows.
        fraction: Expected share of groups held out, in (0, 1).
    """
    keys = [group_key(collection, row) for row in rows]
    positions = {key: _position(key) for key in keys}
    heldout = {key for key, position in positions.items() if position < fraction}
    if heldout and len(heldout) == len(positions):
        heldout.remove(max(positions, key=positions.__getitem__))
    if not heldout and len(positions) > 1:
        heldout = {min(positions, key=positions.__getitem__)}
    return Sides(
        train=[row for row, key in zip(rows, keys, strict=True) if key not in heldout],
        heldout=[row for row, key in zip(rows, keys, strict=True) if key in heldout],
    )


def drop_overlap(collection: Collection, train: list[Row], heldout: list[Row]) -> list[Row]:
    """Keep the training rows whose content is not held out."""
    known = {content_key(collection, row) for row in heldout}
    return [row for row in train if content_key(collection, row) not in known]


def cross_overlaps(datasets: Mapping[Collection, Sides]) -> dict[str, int]:
    """Count held-out rows whose content stands in the training rows of another collection.

    They are counted, not dropped: a prompt met in training is a fair test of a policy, and only
    the user knows whether a text met in pretraining spoils a test.
    """
    demonstrations = datasets["demonstrations"].train
    demonstrated = {content_key("demonstrations", row) for row in demonstrations}
    demonstration_prompts = {group_key("demonstrations", row) for row in demonstrations}
    pair_prompts = {group_key("preferences", row) for row in datasets["preferences"].train}
    texts = {row["text"] for row in datasets["corpus"].train}
    prompts = [group_key("prompts", row) for row in datasets["prompts"].heldout]
    pairs = [
        [{"prompt": row["prompt"], "completion": row[side]} for side in ("chosen", "rejected")]
        for row in datasets["preferences"].heldout
    ]
    return {
        "held-out prompts also in training demonstrations": sum(
            key in demonstration_prompts for key in prompts
        ),
        "held-out prompts also in training preferences": sum(
            key in pair_prompts for key in prompts
        ),
        "held-out pairs with a completion also in training demonstrations": sum(
            any(content_key("demonstrations", row) in demonstrated for row in pair)
            for pair in pairs
        ),
        "held-out pairs with a text also in the training corpus": sum(
            any(_joined(row) in texts for row in pair) for pair in pairs
        ),
    }


def _joined(row: Row) -> str:
    """Join prompt and completion into the running text that a corpus would hold."""
    parts = (row["prompt"], row["completion"])
    return "".join(part if isinstance(part, str) else part[-1]["content"] for part in parts)
