"""Which texts nearly repeat others: candidates from the sketches, checked on the texts themselves.

Every text is compared with the last one before it, of each file, in every band of the sketches
that they share: enough to count the texts that have a near duplicate, and bounded in time where
thousands are alike.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.progress import told
from tasks.data.inspection.sketches import BANDS, HASHES, Template, TextIndex
from tasks.data.inspection.texts import Parts
from tasks.data.inspection.words import Hashes, Words, split_words, triples

SIMILAR = 0.7
"""Jaccard index of word triples from which two texts are near duplicates; in twenty words one may
differ. BigCode's The Stack and others use 0.7 to 0.8."""
FEWEST_TRIPLES = 8
"""Of a text's own, beside its template: shorter ones are alike by chance."""
SURE = 0.8
"""Estimate from which texts count as similar that were too many to check."""
_HOPELESS = 0.5
"""Estimates below are not checked: 64 hashes give 0.7 with a standard error of 0.06."""
MOST_CHECKED = 40_000
"""Pairs of texts that are checked; some four seconds of one core."""
MOST_PARTNERS = 3
"""Earlier texts that one text is checked against: the likeliest ones."""
_AT_A_TIME, _AT_ONCE = 500, 100_000

Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPairs:
    """Pairs of similar texts, the earlier one first.

    Attributes:
        first: Numbers of texts, (pairs,).
        second: Numbers of texts, each above the one in first, (pairs,).
        similarity: Jaccard index, (pairs,).
        unchecked: Candidates beyond `MOST_CHECKED`, judged by their sketches alone.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    similarity: NDArray[np.float64]
    unchecked: int


def find_near(
    index: TextIndex,
    read: Callable[[Sequence[int]], list[Parts]],
    worth: Callable[[NDArray[np.intp], NDArray[np.intp]], Flags],
) -> NearPairs:
    """Find the texts that nearly repeat an earlier one.

    Args:
        index: All texts.
        read: Gives texts by their numbers.
        worth: Whether a pair of texts is one that counts, (pairs,); the others are not checked.
    """
    first, second, similarity = _candidates(index)
    wanted = worth(first, second)
    first, second, similarity = first[wanted], second[wanted], similarity[wanted]
    checked = _to_check(len(first))
    near = (similarity >= SURE) & ~index.same_prompt(first, second)
    parts = range(0, len(checked), _AT_A_TIME)
    for begin in told(parts, "checking likely near duplicates", len(parts), "parts"):
        now = checked[begin : begin + _AT_A_TIME]
        similarity[now] = list(_similarities(first[now], second[now], read, index.template))
    near[checked] = similarity[checked] >= SIMILAR
    return NearPairs(
        first=first[near],
        second=second[near],
        similarity=similarity[near],
        unchecked=len(first) - len(checked),
    )


def _to_check(count: int) -> NDArray[np.intp]:
    """Which of so many pairs are checked: the last ones, which are held out, and some others."""
    last = np.arange(max(0, count - MOST_CHECKED // 2), count)
    others = np.arange(0, count - len(last))
    every = max(1, -(-len(others) // (MOST_CHECKED // 2)))
    return np.concatenate([others[::every], last])


def _candidates(
    index: TextIndex,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Pairs of texts that share a band and may be similar, by rising number of the second one."""
    numbers, sketches = index.sketches()
    files = np.array(index.files, dtype=np.uint8)[numbers]
    per_band = HASHES // BANDS
    codes = [np.zeros(0, dtype=np.int64)]
    for band in told(range(BANDS), "looking for near duplicates", BANDS, "parts"):
        part = np.ascontiguousarray(sketches[:, band * per_band : (band + 1) * per_band])
        codes.append(_neighbours(part, files, len(numbers)))
    code = np.unique(np.concatenate(codes))
    second, first = code // max(1, len(numbers)), code % max(1, len(numbers))
    estimates = np.zeros(len(code))
    for begin in range(0, len(code), _AT_ONCE):
        now = slice(begin, begin + _AT_ONCE)
        estimates[now] = (sketches[first[now]] == sketches[second[now]]).mean(1)
    likely = _best_of_each(second, estimates) & (estimates >= _HOPELESS)
    return numbers[first[likely]], numbers[second[likely]], estimates[likely]


def _best_of_each(second: NDArray[np.int64], estimates: NDArray[np.float64]) -> Flags:
    """The few candidates of each text that are likeliest to be similar."""
    order = np.lexsort((-estimates, second))
    place = np.arange(len(order))
    starts = np.ones(len(order), dtype=np.bool_)
    starts[1:] = second[order][1:] != second[order][:-1]
    best = np.zeros(len(order), dtype=np.bool_)
    best[order] = place - np.maximum.accumulate(np.where(starts, place, 0)) < MOST_PARTNERS
    return best


def _neighbours(
    part: NDArray[np.uint32], files: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Codes second * count + first of texts that are equal in a band, by file the last before."""
    keys = np.zeros(count, dtype=np.uint64)
    for column in part.T:
        keys = (keys ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    place = np.arange(count)
    starts = np.ones(count, dtype=np.bool_)
    starts[1:] = keys[order][1:] != keys[order][:-1]
    begin = np.maximum.accumulate(np.where(starts, place, 0))
    found = []
    for file in range(8):
        inside = (files[order] >> np.uint8(file) & np.uint8(1)).astype(np.bool_)
        last = np.maximum.accumulate(np.where(inside, place, -1))
        before = np.append(-1, last[:-1]) if count else last
        linked = np.flatnonzero((before >= begin) & ~starts)
        found.append(order[linked].astype(np.int64) * count + order[before[linked]])
    return np.unique(np.concatenate(found))


def _similarities(
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    read: Callable[[Sequence[int]], list[Parts]],
    template: Template,
) -> Iterator[float]:
    """Jaccard indices of pairs; prompts and completions must both be similar where both have both.

    One long prompt with two different answers is no near duplicate.
    """
    numbers, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    texts = read(numbers.tolist())
    prompts, completions, wholes, own = (
        [np.unique(found.of(index)) for index in range(len(texts))]
        for found in _triples(texts, template)
    )
    for a, b in zip(*np.split(places, 2), strict=True):
        if min(len(own[a]), len(own[b])) < FEWEST_TRIPLES:
            yield 0.0
        elif all((texts[n].prompt and texts[n].completion) for n in (a, b)):
            yield min(_jaccard(one[a], one[b]) for one in (own, prompts, completions))
        else:
            yield min(_jaccard(own[a], own[b]), _jaccard(wholes[a], wholes[b]))


def _triples(texts: Sequence[Parts], template: Template) -> Iterator[Words]:
    """Triples of the prompts, of the completions, of both together, and these without templates."""
    for part in ("prompt", "completion", "whole"):
        found = triples(split_words([getattr(one, part) for one in texts]))
        yield found
    yield template.remove(found)


def _jaccard(one: Hashes, other: Hashes) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    union = len(one) + len(other) - common
    return common / union if union else 1.0
