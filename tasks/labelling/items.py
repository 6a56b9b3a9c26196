"""What people are asked, a prompt and its completions in an order that tells nothing; labels."""

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ParameterError
from models.randomness import derive_seed
from models.rows import Content, read_rows, write_rows
from tasks.results.digests import canonical_json

LETTERS = "ABCDEFGHI"
"""Names of the completions for people."""
ITEMS, LABELS = "items.jsonl", "labels.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A prompt and different completions of it, as people see them."""

    prompt: Content
    completions: tuple[str, ...]

    @classmethod
    def of(cls, prompt: Content, completions: Iterable[str]) -> "Item | None":
        """Put completions into the order in which they are always shown.

        It is shuffled from their texts, so who samples or asks again asks the same.

        Returns:
            None where fewer than two differ.
        """
        different = sorted(set(completions))
        if len(different) < 2:
            return None
        key = cls(prompt=prompt, completions=tuple(different)).key
        random.Random(derive_seed(0, key)).shuffle(different)
        return cls(prompt=prompt, completions=tuple(different))

    @property
    def key(self) -> str:
        """Names prompt and completions, whatever their order."""
        said = canonical_json([self.prompt, sorted(self.completions)])
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def to_row(self) -> dict[str, Any]:
        """As plain values."""
        return {"key": self.key, "prompt": self.prompt, "completions": list(self.completions)}


def write_items(folder: Path, items: Iterable[Item]) -> None:
    """Write items into a folder."""
    write_rows(folder / ITEMS, (item.to_row() for item in items))


def read_items(folder: Path) -> list[Item]:
    """Read what `write_items` wrote."""
    return [
        Item(prompt=row["prompt"], completions=tuple(row["completions"]))
        for row in read_rows(folder / ITEMS)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of a queue, by item and rater."""

    rows: tuple[dict[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        """Of who rated what how; an edited answer changes it, a comment does not."""
        said = [[row["key"], row["rater"], row["ratings"]] for row in self.rows]
        return hashlib.sha256(canonical_json(said).encode()).hexdigest()

    def __add__(self, other: "Labels") -> "Labels":
        """Both, in the order of one; what both have, an item of two rounds, counts once."""
        rows = {(row["key"], row["rater"]): row for row in (*self.rows, *other.rows)}
        return Labels(rows=tuple(row for _, row in sorted(rows.items())))

    @property
    def raters(self) -> Counter[str]:
        """How many labels each rater gave."""
        return Counter(row["rater"] for row in self.rows)

    def without(self, raters: Collection[str]) -> "Labels":
        """Leave out those of some raters.

        Raises:
            ParameterError: One of them gave none.
        """
        strangers = sorted(set(raters) - self.raters.keys())
        if strangers:
            raise ParameterError(
                f"feedback.without_raters names {', '.join(strangers)}, of whom there are no "
                f"labels; there are some of {', '.join(sorted(self.raters)) or 'nobody'}"
            )
        return Labels(rows=tuple(row for row in self.rows if row["rater"] not in raters))

    def write(self, folder: Path) -> Path:
        """Write them into a folder and return the file."""
        write_rows(folder / LABELS, self.rows)
        return folder / LABELS

    @classmethod
    def read(cls, file: Path) -> "Labels":
        """Read what `write` wrote."""
        return cls(rows=tuple(read_rows(file)))
