"""The inspection of eight written datasets, in one pass over each and a second look at samples."""

from pathlib import Path

from models.progress import told
from tasks.data.formats import COLLECTIONS, Collection, Row
from tasks.data.inspection.languages import MOST_TEXTS, find_languages
from tasks.data.inspection.lengths import LengthCounter, find_truncation
from tasks.data.inspection.pairs import PairCounter
from tasks.data.inspection.records import (
    Agreement,
    CollectionInspection,
    Inspection,
    TokenLimits,
    Truncation,
)
from tasks.data.inspection.repeats import Repeats
from tasks.data.inspection.sampling import SmallSample, placed_rows, rows_at, sample_share
from tasks.data.inspection.texts import COMPLETIONS, content_of

SIDES = ("train", "heldout")


def inspect_datasets(
    folder: Path, *, agreement: Agreement | None = None, limits: TokenLimits | None = None
) -> Inspection:
    """Look at the datasets that a preparation has written.

    Reads ``{corpus,demonstrations,preferences,prompts}_{train,heldout}.jsonl``; memory does not
    grow with the texts, and large files are looked at in samples (`sampling`).

    Args:
        folder: Where the eight files are.
        agreement: Of `JudgementCounter`, which saw the rows before duplicates were dropped.
        limits: A tokenizer and its limits, to count tokens too.
    """
    return _Inspector(folder, limits).inspect(agreement)


class _Inspector:
    def __init__(self, folder: Path, limits: TokenLimits | None) -> None:
        self._limits = limits
        self._paths = [folder / f"{name}_{side}.jsonl" for side in SIDES for name in COLLECTIONS]
        self._repeats = Repeats(self._paths)
        self._lengths = {name: LengthCounter() for name in COLLECTIONS}
        self._samples = [SmallSample(MOST_TEXTS) for _ in self._paths]
        self._shares = [sample_share(path) for path in self._paths]
        self._rows = [0] * len(self._paths)
        self._pairs = PairCounter()

    def inspect(self, agreement: Agreement | None) -> Inspection:
        for file, path in enumerate(self._paths):
            self._read(file, path)
        unchecked = self._repeats.compare()
        collections = tuple(self._collection(name) for name in COLLECTIONS)
        return Inspection(
            collections=collections,
            leaks=self._repeats.leaks(),
            pairs=self._pairs.numbers(),
            agreement=agreement,
            truncations=tuple(self._truncations()),
            unchecked=unchecked,
        )

    def _read(self, file: int, path: Path) -> None:
        name = COLLECTIONS[file % len(COLLECTIONS)]
        rows = placed_rows(path, self._shares[file])
        for placed in told(rows, f"looking at {path.name}", unit="rows"):
            self._rows[file] += 1
            self._lengths[name].add(placed.row)
            self._samples[file].add(placed)
            self._repeats.add(file, placed)
            if name == "preferences":
                self._pairs.add(placed.row)
        self._repeats.flush(file)

    def _collection(self, name: Collection) -> CollectionInspection:
        train = COLLECTIONS.index(name)
        heldout = train + len(COLLECTIONS)
        looked_at = self._rows[train] + self._rows[heldout]
        every = sum(self._rows[file] / self._shares[file] for file in (train, heldout))
        sample = self._sample(train) or self._sample(heldout)
        return CollectionInspection(
            name=name,
            train=self._rows[train],
            heldout=self._rows[heldout],
            share=looked_at / every if every else 1.0,
            columns=self._lengths[name].columns(sample, round(every), self._limits),
            near_duplicates=self._repeats.near_duplicates(name),
            template_share=self._repeats.template_shares[name],
            languages=find_languages(_shown(name, row) for row in self._sample(train)),
            heldout_languages=find_languages(_shown(name, row) for row in self._sample(heldout)),
        )

    def _sample(self, file: int) -> list[Row]:
        return list(rows_at(self._paths[file], self._samples[file].offsets()))

    def _truncations(self) -> list[Truncation]:
        if self._limits is None:
            return []
        found = [
            find_truncation(name, self._sample(file), self._limits)
            for file, name in enumerate(COLLECTIONS)
        ]
        return [one for one in found if one is not None]


def _shown(name: Collection, row: Row) -> str:
    """The text whose language counts: what is learned, or else the prompt."""
    return content_of(row[(*COMPLETIONS[name], "prompt")[0]])
