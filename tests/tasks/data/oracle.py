"""Preparation as one would first write it: all rows in lists, compared as they are.

The streamed preparation must write the same bytes and count the same rows.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.data.cleaning import clean_row
from tasks.data.formats import COLLECTIONS, Collection, Row, RowProblem, as_messages, convert_row
from tasks.data.quality import check_row

Rows = dict[Collection, list[Row]]


@dataclass
class Prepared:
    """Rows by collection and side, and rows dropped by collection and reason."""

    train: Rows = field(default_factory=dict)
    heldout: Rows = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    overlaps: list[int] = field(default_factory=list)


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def group(collection: Collection, row: Mapping[str, Any]) -> str:
    return canonical(row["text" if collection == "corpus" else "prompt"])


def content(collection: Collection, row: Mapping[str, Any]) -> str:
    if collection == "demonstrations":
        return canonical([row["prompt"], row["completion"]])
    if collection == "preferences":
        pair = sorted((canonical(row["chosen"]), canonical(row["rejected"])))
        return canonical([row["prompt"], *pair])
    return group(collection, row)


def position(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def prepare(train: Rows, heldout: Rows, fraction: float) -> Prepared:
    """Prepare raw rows of a folder or of named sources."""
    found = Prepared(dropped={collection: Counter() for collection in COLLECTIONS})
    sides = [
        {name: _admitted(name, rows, found) for name, rows in side.items()}
        for side in (train, heldout)
    ]
    rows = [row for side in sides for rows in side.values() for row in rows]
    if any(isinstance(row.get("prompt"), list) for row in rows):
        sides = [{n: [as_messages(row) for row in rows] for n, rows in s.items()} for s in sides]
    if any("margin" in row for row in rows):
        for side in sides:
            pairs = side.get("preferences", [])
            pairs[:] = [{**row, "margin": row.get("margin", 0.0)} for row in pairs]
    for name in ("corpus", "preferences", "demonstrations", "prompts"):
        _derive(name, sides, found)
        if name in sides[0]:
            _hold_out(name, sides, found, fraction)
        else:
            found.train[name] = found.heldout[name] = []
    found.overlaps = _overlaps(found)
    return found


def _admitted(name: Collection, rows: list[Row], found: Prepared) -> list[Row]:
    kept = []
    for row in rows:
        found.read[name] += 1
        try:
            (one,) = convert_row(name, row)
            one = clean_row(one)
            check_row(one)
            kept.append(one)
        except RowProblem as problem:
            found.dropped[name][str(problem)] += 1
    return kept


def _derive(name: Collection, sides: list[Rows], found: Prepared) -> None:
    if name not in ("demonstrations", "prompts") or name in sides[0]:
        return
    origin: Collection = "preferences" if name == "demonstrations" else "demonstrations"

    def derived(row: Row) -> Row:
        extra = {"completion": row["chosen"]} if name == "demonstrations" else {}
        return {"prompt": row["prompt"], **extra}

    sides[0][name] = [derived(row) for row in found.train[origin]]
    found.read[name] += len(sides[0][name])
    if name not in sides[1]:
        sides[1][name] = [derived(row) for row in found.heldout[origin]]
        found.read[name] += len(sides[1][name])


def _hold_out(name: Collection, sides: list[Rows], found: Prepared, fraction: float) -> None:
    train = _without_duplicates(name, sides[0][name], found)
    if name in sides[1]:
        heldout = _without_duplicates(name, sides[1][name], found)
    else:
        keys = {group(name, row): position(group(name, row)) for row in train}
        held = {key for key, place in keys.items() if place < fraction}
        if held and len(held) == len(keys):
            held.remove(max(keys, key=keys.__getitem__))
        if not held and len(keys) > 1:
            held = {min(keys, key=keys.__getitem__)}
        heldout = [row for row in train if group(name, row) in held]
        train = [row for row in train if group(name, row) not in held]
    known = {content(name, row) for row in heldout}
    kept = [row for row in train if content(name, row) not in known]
    if len(kept) < len(train):
        found.dropped[name]["held-out row in training"] += len(train) - len(kept)
    found.train[name], found.heldout[name] = kept, heldout


def _without_duplicates(name: Collection, rows: list[Row], found: Prepared) -> list[Row]:
    first: dict[str, Row] = {}
    ties = set()
    for row in rows:
        known = first.setdefault(content(name, row), row)
        if name == "preferences" and known["chosen"] != row["chosen"]:
            ties.add(content(name, row))
    for key in ties:
        del first[key]
    counts = {
        "the pair stands in both directions": 2 * len(ties),
        "duplicate": len(rows) - len(first) - 2 * len(ties),
    }
    found.dropped[name].update({reason: count for reason, count in counts.items() if count})
    return list(first.values())


def _overlaps(found: Prepared) -> list[int]:
    def text(value: Any) -> str:
        return value if isinstance(value, str) else str(value[-1]["content"])

    shown = {content("demonstrations", row) for row in found.train["demonstrations"]}
    asked = {group("demonstrations", row) for row in found.train["demonstrations"]}
    judged = {group("preferences", row) for row in found.train["preferences"]}
    texts = {row["text"] for row in found.train["corpus"]}
    prompts = [group("prompts", row) for row in found.heldout["prompts"]]
    pairs = [
        [{"prompt": row["prompt"], "completion": row[side]} for side in ("chosen", "rejected")]
        for row in found.heldout["preferences"]
    ]
    return [
        sum(key in asked for key in prompts),
        sum(key in judged for key in prompts),
        sum(any(content("demonstrations", row) in shown for row in pair) for pair in pairs),
        sum(
            any(text(row["prompt"]) + text(row["completion"]) in texts for row in pair)
            for pair in pairs
        ),
    ]
