"""Small datasets whose repeats, leaks and biases are known by construction."""

import random
from pathlib import Path
from typing import Any

from models.rows import write_rows
from tasks.data.formats import COLLECTIONS

Rows = list[dict[str, Any]]


def sentence(number: int, words: int = 30) -> str:
    """A text that shares no three words with that of another number."""
    generator = random.Random(number)
    return " ".join(f"w{generator.randrange(10**6)}" for _ in range(words))


def changed(text: str, place: int = 10) -> str:
    """A text with one other word: of 28 triples of 30 words three are new, so Jaccard 25/31."""
    words = text.split()
    words[place] = "changed"
    return " ".join(words)


def write(folder: Path, **rows: Rows) -> Path:
    """Write the eight files; those not given are empty."""
    folder.mkdir(exist_ok=True)
    for name in COLLECTIONS:
        for side in ("train", "heldout"):
            write_rows(folder / f"{name}_{side}.jsonl", rows.get(f"{name}_{side}", []))
    return folder
