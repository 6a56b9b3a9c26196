"""Documents that repeat others, exactly or nearly: those of a corpus, and held-out ones in it.

Exact are equal words, whatever case and white space. For near ones `inspection` finds candidates by
MinHash sketches in bands and compares their word triples; similar documents form groups, of which
the earliest one stays. Memory grows by some hundred bytes a document, not with the texts.

Source: Broder, On the resemblance and containment of documents (1997); Lee et al., Deduplicating
Training Data Makes Language Models Better (2022), section 4.2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.data.inspection.near import NearPairs, find_near
from tasks.data.inspection.sampling import PlacedRow, rows_at
from tasks.data.inspection.sketches import Template, TextIndex
from tasks.data.inspection.texts import Parts
from tasks.data.inspection.words import LONGEST
from tasks.data.selection.config import SelectionConfig

EXACT, NEAR = "exact duplicate", "near duplicate"
HELD_OUT, NEAR_HELD_OUT = "held-out document", "nearly a held-out document"
_HELD_OUT, _TRAIN = 0, 1
"""Numbers of the files; held-out documents are taken first, so that training ones repeat them."""
_AT_A_TIME = 2**20
"""Bytes of rows that are taken together: their words need some 45 times as much memory."""


@dataclass(slots=True, kw_only=True)
class Duplicates:
    """What repeats what.

    Attributes:
        reasons: Of the training rows that are dropped, by their number.
        of: The documents that these repeat.
        heldout_exact: Held-out documents that stand in the corpus.
        heldout_near: Those that nearly stand there.
        unchecked: Candidates beyond what is compared, which were judged by their sketches.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    of: dict[int, str] = field(default_factory=dict)
    heldout_exact: int = 0
    heldout_near: int = 0
    unchecked: int = 0


class DuplicateFinder:
    """Takes the documents of both files, then says which training rows repeat others."""

    def __init__(self, heldout: Path, train: Path, config: SelectionConfig) -> None:
        self._paths = (heldout, train)
        self._config = config
        self._index = TextIndex(template=Template())
        self._rows: list[int] = []
        self._waiting: list[PlacedRow] = []
        self._waiting_size = 0

    def add_heldout(self, rows: Iterable[PlacedRow]) -> None:
        """Take all held-out documents; called first."""
        for row in rows:
            self._take(_HELD_OUT, row)
        self._flush(_HELD_OUT)

    def add(self, number: int, row: PlacedRow) -> None:
        """Take a training row that keeps the rules, by its number in the file."""
        self._rows.append(number)
        self._take(_TRAIN, row)

    def find(self) -> Duplicates:
        """Compare all that was taken."""
        self._flush(_TRAIN)
        found = Duplicates()
        texts = list(self._index.rows.get(_TRAIN, ()))  # of each training row, its text's number
        heldout, train = (set(self._index.rows.get(file, ())) for file in (_HELD_OUT, _TRAIN))
        near = self._near()
        found.unchecked = near.unchecked
        pairs = list(zip(near.first.tolist(), near.second.tolist(), strict=True))
        leaked = {text: (HELD_OUT, text) for text in train & heldout}
        nearly: set[int] = set()
        for one, other in (pair for both in pairs for pair in (both, both[::-1])):
            if one in heldout and other in train - heldout:
                leaked.setdefault(other, (NEAR_HELD_OUT, one))
                nearly.add(one)
        found.heldout_exact = len(train & heldout)
        found.heldout_near = len(nearly - train)
        drops = leaked if self._config.heldout == "drop" else {}
        if self._config.near_duplicates:
            drops = drops | self._groups(pairs, train - drops.keys(), texts)
        self._judge_rows(found, texts, drops)
        return found

    def _near(self) -> NearPairs:
        near = find_near(self._index, self._read, lambda first, second: first != second)
        close = near.similarity >= self._config.similarity
        return NearPairs(
            first=near.first[close],
            second=near.second[close],
            similarity=near.similarity[close],
            unchecked=near.unchecked,
        )

    def _groups(
        self, pairs: list[tuple[int, int]], kept: set[int], texts: Sequence[int]
    ) -> dict[int, tuple[str, int]]:
        """The texts of each group of similar ones but for the earliest, which they repeat."""
        first = {text: text for text in kept}
        places = range(len(texts), 0, -1)
        rows = dict(zip(reversed(texts), places, strict=True))  # of each text the first

        def root(text: int) -> int:
            while first[text] != text:
                first[text] = first[first[text]]
                text = first[text]
            return text

        for one, other in pairs:
            if one in kept and other in kept:
                low, high = sorted((root(one), root(other)), key=rows.__getitem__)
                first[high] = low
        return {text: (NEAR, root(text)) for text in kept if root(text) != text}

    def _judge_rows(
        self, found: Duplicates, texts: Sequence[int], drops: dict[int, tuple[str, int]]
    ) -> None:
        seen: set[int] = set()
        for row, text in zip(self._rows, texts, strict=True):
            reason, of = drops.get(text, (EXACT, text))
            again = text in seen and self._config.exact_duplicates
            seen.add(text)
            if text in drops or again:
                found.reasons[row] = reason
                found.of[row] = self._read([of])[0].prompt

    def _take(self, file: int, row: PlacedRow) -> None:
        self._waiting.append(row)
        self._waiting_size += row.size
        if self._waiting_size >= _AT_A_TIME:
            self._flush(file)

    def _flush(self, file: int) -> None:
        rows, self._waiting, self._waiting_size = self._waiting, [], 0
        if rows:
            texts = [one.row["text"] for one in rows]
            self._index.add(texts, file, [one.offset for one in rows], [-1] * len(rows))

    def _read(self, numbers: Sequence[int]) -> list[Parts]:
        """Read texts from their files again."""
        found = []
        for number in numbers:
            place = self._index.place(number)
            [row] = rows_at(self._paths[place.file], [place.offset])
            found.append(Parts(prompt=row["text"][:LONGEST]))
        return found
