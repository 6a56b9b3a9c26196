"""Near duplicates within the training rows, and held-out rows that stand in training rows.

Leakage is counted across all collections: a held-out prompt may be the prompt of a demonstration,
and a held-out completion a text of the corpus. Exact duplicates within a collection are dropped
before (`build`); what is exact here differs in case or white space, or stands in another
collection.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.data.formats import COLLECTIONS, Collection, Row
from tasks.data.inspection.near import NearPairs, find_near
from tasks.data.inspection.records import Leak, Match, NearDuplicates
from tasks.data.inspection.sampling import PlacedRow, placed_rows, rows_at
from tasks.data.inspection.sketches import Place, Template, TextIndex
from tasks.data.inspection.texts import COMPLETIONS, Parts, prompt_of, texts_of

Kind: TypeAlias = Literal["prompt", "text"]
Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.intp]

EXAMPLES = 3
EXAMPLE_CHARACTERS = 300
_TEMPLATE_ROWS = 1_000
_AT_A_TIME = 100_000
"""Characters of texts that become one array: small enough for a processor's cache."""
_TRAIN = len(COLLECTIONS)
"""Files below this number hold training rows, those from it on the held-out ones."""


class Repeats:
    """The texts of all datasets, and which of them are alike."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Learn what templates the training rows have.

        Args:
            paths: The training file of each collection, then the held-out file of each.
        """
        self._paths = paths
        template = Template()
        self.template_shares: dict[Collection, float] = {}
        for name, path in zip(COLLECTIONS, paths, strict=False):
            rows = [one.row for one in itertools.islice(placed_rows(path), _TEMPLATE_ROWS)]
            prompts = template.learn([prompt_of(row).prompt for row in rows if "prompt" in row])
            texts = [one.whole for row in rows for one in texts_of(name, row)[:1]]
            self.template_shares[name] = template.learn(texts) if texts else prompts
        self._prompts = TextIndex(template=template)
        self._texts = TextIndex(template=template)
        self._waiting: list[PlacedRow] = []
        self._waiting_size = 0
        self._near: dict[Kind, NearPairs] = {}

    def add(self, file: int, placed: PlacedRow) -> None:
        """Take a row of the file of this number; `flush` ends a file."""
        self._waiting.append(placed)
        self._waiting_size += sum(len(str(value)) for value in placed.row.values())
        if self._waiting_size >= _AT_A_TIME:
            self.flush(file)

    def flush(self, file: int) -> None:
        """Take what waits of a file."""
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        name = COLLECTIONS[file % _TRAIN]
        prompts = [-1] * len(waiting)
        if waiting and name != "corpus":
            places = [Place(file=file, offset=one.offset, part=0) for one in waiting]
            texts = [prompt_of(one.row).prompt for one in waiting]
            prompts = self._prompts.add(texts, places, prompts)
        if waiting and COMPLETIONS[name]:
            parts = range(len(COMPLETIONS[name]))
            self._texts.add(
                [one.whole for placed in waiting for one in texts_of(name, placed.row)],
                [Place(file=file, offset=one.offset, part=n) for one in waiting for n in parts],
                [prompt for prompt in prompts for _ in parts],
            )

    def compare(self) -> int:
        """Find what is nearly alike, when all files were taken.

        Returns:
            The number of candidates that were too many to check, judged by their sketches alone.
        """
        for kind in ("prompt", "text"):
            self._near[kind] = find_near(
                self._index(kind), functools.partial(self._read, kind), self._worth(kind)
            )
        return sum(one.unchecked for one in self._near.values())

    def near_duplicates(self, name: Collection) -> NearDuplicates:
        """Training rows of a collection that nearly repeat an earlier one."""
        kind = _kind(name)
        near, index, file = self._near[kind], self._index(kind), COLLECTIONS.index(name)
        inside = self._in_file(index, file)
        kept = inside[near.first] & inside[near.second]
        if name == "preferences":
            kept &= ~index.same_prompt(near.first, near.second)
        again = np.zeros(len(index), dtype=np.bool_)
        again[near.second[kept]] = True
        return NearDuplicates(
            rows=int(self._by_row(kind, file, again).sum()),
            examples=self._examples(kind, near, kept),
        )

    def leaks(self) -> tuple[Leak, ...]:
        """Every held-out collection against every training one; those with a leak."""
        found = []
        for kind in ("prompt", "text"):
            for heldout in COLLECTIONS:
                for train in COLLECTIONS:
                    leak = self._leak(kind, heldout, train)
                    if leak is not None and leak.exact + leak.near:
                        found.append(leak)
        return tuple(found)

    def _leak(self, kind: Kind, heldout: Collection, train: Collection) -> Leak | None:
        index, near = self._index(kind), self._near[kind]
        file, other = COLLECTIONS.index(heldout) + _TRAIN, COLLECTIONS.index(train)
        if file not in index.rows or other not in index.rows:
            return None
        inside, held = self._in_file(index, other), self._in_file(index, file)
        similar = np.zeros(len(index), dtype=np.bool_)
        forth = held[near.second] & inside[near.first]
        back = held[near.first] & inside[near.second]
        similar[near.second[forth]] = True
        similar[near.first[back]] = True
        exact_rows = self._by_row(kind, file, inside)
        near_rows = self._by_row(kind, file, similar) & ~exact_rows
        same = np.flatnonzero(held & inside)[:EXAMPLES]
        examples = [
            Match(first=text, second=text, similarity=1.0)
            for text in (_shown(one) for one in self._read(kind, same.tolist()))
        ]
        examples += self._examples(kind, near, forth & ~inside[near.second])
        return Leak(
            heldout=heldout,
            train=train,
            what=kind,
            rows=len(exact_rows),
            exact=int(exact_rows.sum()),
            near=int(near_rows.sum()),
            examples=tuple(examples[: 2 * EXAMPLES]),
        )

    def _index(self, kind: Kind) -> TextIndex:
        return self._prompts if kind == "prompt" else self._texts

    def _in_file(self, index: TextIndex, file: int) -> Flags:
        bits = np.array(index.files, dtype=np.uint8)
        return (bits >> np.uint8(file) & np.uint8(1)).astype(np.bool_)

    def _by_row(self, kind: Kind, file: int, flags: Flags) -> Flags:
        """Whether a row of a file holds a text that is flagged."""
        rows = self._index(kind).rows.get(file, ())
        per_row = len(COMPLETIONS[COLLECTIONS[file % _TRAIN]]) if kind == "text" else 1
        return np.asarray(flags[np.array(rows, dtype=np.intp)].reshape(-1, per_row).any(axis=1))

    def _worth(self, kind: Kind) -> Callable[[Numbers, Numbers], Flags]:
        """Pairs that are counted: within one training file, or held-out against training."""
        index = self._index(kind)
        bits = np.array(index.files, dtype=np.uint8)
        train = np.uint8(2**_TRAIN - 1)
        ranked = np.uint8(1 << COLLECTIONS.index("preferences"))
        within = np.uint8(sum(1 << n for n, name in enumerate(COLLECTIONS) if _kind(name) == kind))

        def worth(first: Numbers, second: Numbers) -> Flags:
            one, other = bits[first], bits[second]
            across = np.logical_or(
                ((one & train) > 0) & (other > train), ((other & train) > 0) & (one > train)
            )
            both = one & other & within
            # The answers of one ranking may be alike: they are no rows that repeat each other.
            both = np.where(index.same_prompt(first, second), both & ~ranked, both)
            return np.logical_or(both > 0, across)

        return worth

    def _examples(self, kind: Kind, near: NearPairs, kept: Flags) -> tuple[Match, ...]:
        chosen = np.flatnonzero(kept)[:EXAMPLES]
        second = self._read(kind, near.second[chosen].tolist())
        first = self._read(kind, near.first[chosen].tolist())
        return tuple(
            Match(first=_shown(b), second=_shown(a), similarity=round(float(s), 3))
            for b, a, s in zip(second, first, near.similarity[chosen], strict=True)
        )

    def _read(self, kind: Kind, numbers: Sequence[int]) -> list[Parts]:
        """Read texts from their files again: they are not kept in memory."""
        index = self._index(kind)
        places = {number: index.place(number) for number in numbers}
        by_file: dict[int, list[tuple[int, int]]] = {}
        for number, place in places.items():
            by_file.setdefault(place.file, []).append((place.offset, number))
        found: dict[int, Parts] = {}
        for file, wanted in by_file.items():
            wanted.sort()
            rows = rows_at(self._paths[file], [offset for offset, _ in wanted])
            for row, (_, number) in zip(rows, wanted, strict=True):
                found[number] = _part(kind, file, row, places[number].part)
        return [found[number] for number in numbers]


def _kind(name: Collection) -> Kind:
    """In what rows of a collection may repeat each other."""
    return "text" if COMPLETIONS[name] else "prompt"


def _part(kind: Kind, file: int, row: Row, part: int) -> Parts:
    return prompt_of(row) if kind == "prompt" else texts_of(COLLECTIONS[file % _TRAIN], row)[part]


def _shown(text: Parts) -> str:
    return text.whole[:EXAMPLE_CHARACTERS]
