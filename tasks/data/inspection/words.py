"""Texts as numbers: words, triples of words and the identity of a whole text, many at a time.

A word is a run of letters and digits in one case; a mark of punctuation is a word, and so is a
character of a script that puts no spaces between words. White space counts nothing, so texts that
differ only in it, or in case, are one text. Everything is done on arrays of code points, a tenth
of the time that a loop over words takes.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]
Places: TypeAlias = NDArray[np.intp]

_SPACE, _LETTER, _SINGLE = 0, 1, 2
_LAST_CODE_POINT = 0x30000
"""Above are no letters."""
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF),
    (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFF),
)  # fmt: skip
"""Thai, Lao, Tibetan, Burmese, Khmer, kana and Han."""
LONGEST = 100_000
"""Characters of a text that count; a longer one is known by these and by its length."""
_TRIPLE = 3
_POWERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Hashes of the words of several texts, one after the other.

    Attributes:
        hashes: One for each word, (words,).
        ends: Where each text begins, and where the last one ends, (texts + 1,).
    """

    hashes: Hashes
    ends: Places

    @property
    def counts(self) -> Places:
        """Words of each text, (texts,)."""
        return np.diff(self.ends)

    def of(self, index: int) -> Hashes:
        """The hashes of one text."""
        return self.hashes[self.ends[index] : self.ends[index + 1]]

    def keep(self, kept: NDArray[np.bool_]) -> "Words":
        """The same texts with some of their hashes, by a flag for each, (words,)."""
        return Words(hashes=self.hashes[kept], ends=np.append(0, np.cumsum(kept))[self.ends])

    def of_texts(self, kept: NDArray[np.bool_]) -> "Words":
        """Some of the texts, by a flag for each, (texts,)."""
        counts = self.counts
        sizes = counts[kept]
        return Words(
            hashes=self.hashes[np.repeat(kept, counts)], ends=np.append(0, np.cumsum(sizes))
        )


def split_words(texts: Sequence[str]) -> Words:
    """Find the words of texts."""
    folded = [_fold(text) for text in texts]
    begins = np.cumsum([0, *(len(text) + 1 for text in folded)])
    joined = "\n".join([*folded, ""])
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds, values = _tables()
    points = np.minimum(points, _LAST_CODE_POINT)
    kind = kinds[points]
    goes_on = np.zeros(len(kind), dtype=np.bool_)
    goes_on[1:] = (kind[1:] == _LETTER) & (kind[:-1] == _LETTER)
    starts = np.flatnonzero((kind != _SPACE) & ~goes_on)
    ends = np.searchsorted(starts, begins)
    if not len(starts):
        return Words(hashes=np.zeros(0, dtype=np.uint64), ends=ends)
    lengths = np.diff(np.append(starts, len(points)))
    head = starts[0]
    place = np.arange(head, len(points)) - np.repeat(starts, lengths)
    letters = values[points[head:]] * _powers(_POWERS)[place % _POWERS]
    return Words(hashes=_mix(np.add.reduceat(letters, starts - head)), ends=ends)


def identify(words: Words) -> Hashes:
    """A number for each text that depends on its words and their order; 0 without words."""
    counts = words.counts
    full = np.flatnonzero(counts)
    found = np.zeros(len(counts), dtype=np.uint64)
    if len(full):
        place = np.arange(len(words.hashes)) - np.repeat(words.ends[:-1], counts)
        terms = words.hashes * _powers(int(counts.max()))[place]
        found[full] = _mix(np.add.reduceat(terms, words.ends[:-1][full]))
    return found


def triples(words: Words) -> Words:
    """Hashes of each three neighbouring words; a shorter text is one such hash."""
    hashes, counts = words.hashes, words.counts
    begin, end = np.repeat(words.ends[:-1], counts), np.repeat(words.ends[1:], counts)
    place = np.arange(len(hashes))
    padded = np.append(hashes, np.zeros(_TRIPLE, dtype=np.uint64))
    second = np.where(place + 1 < end, padded[1 : len(hashes) + 1], np.uint64(0))
    third = np.where(place + 2 < end, padded[2 : len(hashes) + 2], np.uint64(0))
    one, two, three = _powers(_TRIPLE)
    kept = (place + 2 < end) | (place == begin)
    found = _mix(hashes * one + second * two + third * three)[kept]
    sizes = np.maximum(counts - _TRIPLE + 1, np.minimum(counts, 1))
    return Words(hashes=found, ends=np.append(0, np.cumsum(sizes)))


def _fold(text: str) -> str:
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} {len(text)}"
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _mix(values: Hashes) -> Hashes:
    """Spread numbers over 64 bits; the end of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _tables() -> tuple[NDArray[np.uint8], Hashes]:
    """Kind and hash of each code point; white space counts nothing."""
    kinds = np.full(_LAST_CODE_POINT + 1, _SINGLE, dtype=np.uint8)
    for point in range(_LAST_CODE_POINT):
        character = chr(point)
        if character.isspace():
            kinds[point] = _SPACE
        elif character.isalnum() or unicodedata.category(character)[0] == "M":
            kinds[point] = _LETTER
    for first, last in _WITHOUT_SPACES:
        block = kinds[first : last + 1]
        block[block == _LETTER] = _SINGLE
    values = _mix(np.arange(1, len(kinds) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    values[kinds == _SPACE] = 0
    return kinds, values


def _powers(count: int) -> Hashes:
    """Odd numbers, one for each place."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    return _mix(numbers) | np.uint64(1)
