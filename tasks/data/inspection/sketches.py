"""Every different text of the datasets once: where it stands, and a sketch to find its like.

A text is known by its words (`words.identify`), so equal ones need no comparison. Of each a MinHash
sketch of its word triples is kept, cut into bands for finding candidates (locality-sensitive
hashing) and into low bytes for a first estimate. Triples that stand in a tenth of the texts and
more belong to a template, and count nothing.

Source: Broder, On the resemblance and containment of documents (1997); Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, section 3.4.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.data.inspection.words import Hashes, Words, identify, split_words, triples

HASHES = 64
BANDS = 16
"""Of four hashes each: two texts with Jaccard index s share a band with probability
1 - (1 - s^4)^16, so 0.99 at 0.7, 0.34 at 0.4 and 0.0016 at 0.1."""
_SEED = 1
COMMON_SHARE = 0.1
_FEWEST_TEXTS = 100
"""Fewer show no template."""
_TABLE = 2**20
"""Buckets of common triples; a few hundred of them hit another triple once in thousands."""

Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a text stands: file by number, first byte of its row, and which of the row's texts."""

    file: int
    offset: int
    part: int


class Template:
    """Word triples that so many texts hold that they tell nothing about two of them."""

    def __init__(self) -> None:
        self._common: Flags = np.zeros(_TABLE, dtype=np.bool_)

    def learn(self, texts: Sequence[str]) -> float:
        """Add what the texts of one collection have in common.

        Returns:
            The share of their triples that is common; 0 for fewer than a hundred texts.
        """
        if len(texts) < _FEWEST_TEXTS:
            return 0.0
        found = triples(split_words(texts))
        each = np.concatenate([np.unique(found.of(index)) for index in range(len(texts))])
        values, counts = np.unique(each, return_counts=True)
        self._common[_bucket(values[counts >= COMMON_SHARE * len(texts)])] = True
        return float(self._common[_bucket(found.hashes)].mean()) if len(found.hashes) else 0.0

    def remove(self, found: Words) -> Words:
        """Triples without the common ones."""
        return found.keep(~self._common[_bucket(found.hashes)])


def _bucket(hashes: Hashes) -> NDArray[np.intp]:
    return (hashes % np.uint64(_TABLE)).astype(np.intp)


@dataclass(slots=True, kw_only=True)
class TextIndex:
    """Different texts, numbered as they come.

    Attributes:
        template: What their sketches leave out.
        files: For each text a bit for every file that it stands in.
        prompts: For each text the number of its prompt; -1 without one.
        rows: By file the numbers of the texts of its rows, one row after the other.
    """

    template: Template
    files: "array[int]" = field(default_factory=lambda: array("B"))
    prompts: "array[int]" = field(default_factory=lambda: array("i"))
    rows: "dict[int, array[int]]" = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    _at: "tuple[array[int], array[int], array[int]]" = field(
        default_factory=lambda: (array("B"), array("q"), array("B"))
    )
    _sketches: list[NDArray[np.uint32]] = field(default_factory=list)
    _sketched: "array[int]" = field(default_factory=lambda: array("i"))

    def __len__(self) -> int:
        """Number of different texts."""
        return len(self.files)

    def add(
        self, texts: Sequence[str], places: Sequence[Place], prompts: Sequence[int]
    ) -> list[int]:
        """Take the texts of some rows, and give their numbers."""
        hashes = [hash(text) for text in texts]  # most texts stand in several collections
        fresh = [index for index, one in enumerate(hashes) if one not in self._seen]
        words = split_words([texts[index] for index in fresh])
        first = np.zeros(len(fresh), dtype=np.bool_)
        for turn, (index, key) in enumerate(zip(fresh, identify(words).tolist(), strict=True)):
            if key not in self._numbers:
                first[turn] = True
                self._numbers[key] = self._append(places[index], prompts[index])
            self._seen[hashes[index]] = self._numbers[key]
        numbers = [self._seen[one] for one in hashes]
        for number, place in zip(numbers, places, strict=True):
            self.files[number] |= 1 << place.file
            self.rows.setdefault(place.file, array("i")).append(number)
        self._sketch(words.of_texts(first), np.array(numbers, dtype=np.intp)[fresh][first])
        return numbers

    def _append(self, place: Place, prompt: int) -> int:
        for column, value in zip(self._at, (place.file, place.offset, place.part), strict=True):
            column.append(value)
        self.files.append(0)
        self.prompts.append(prompt)
        return len(self.files) - 1

    def place(self, number: int) -> Place:
        """Where a text was first met."""
        file, offset, part = self._at
        return Place(file=file[number], offset=offset[number], part=part[number])

    def same_prompt(self, first: Numbers, second: Numbers) -> Flags:
        """Whether pairs of texts have one prompt, (pairs,)."""
        prompts = np.array(self.prompts, dtype=np.intp)
        same: Flags = (prompts[first] == prompts[second]) & (prompts[first] >= 0)
        return same

    def sketches(self) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """Numbers of the texts that have a sketch, (texts,), and these, (texts, `HASHES`)."""
        empty = np.zeros((0, HASHES), dtype=np.uint32)
        return np.array(self._sketched, dtype=np.intp), np.concatenate([empty, *self._sketches])

    def _sketch(self, words: Words, numbers: NDArray[np.intp]) -> None:
        from rensa import RMinHash  # only where data are inspected

        found = self.template.remove(triples(words))
        full = found.counts > 0
        if not full.any():
            return
        found = found.of_texts(full)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            found.hashes, found.ends.astype(np.uint64), HASHES, _SEED
        )
        self._sketches.append(np.array(matrix.to_rows(), dtype=np.uint32))
        self._sketched.extend(numbers[full].tolist())
