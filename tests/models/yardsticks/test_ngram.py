"""Kneser-Ney against a slow oracle of dictionaries, by hand, and as a distribution."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from models.yardsticks.ngram import NgramModel

EOS = 0
VOCAB = 9


class Oracle:
    """Modified Kneser-Ney on dictionaries, one probability at a time."""

    def __init__(self, documents: Sequence[Sequence[int]], order: int) -> None:
        self.order = order
        occurrences: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
        for document in documents:
            row = (EOS, *document, EOS)
            for end in range(1, len(row)):
                for length in range(1, order + 1):
                    if end - length + 1 >= 0:
                        occurrences[length][row[end - length + 1 : end + 1]] += 1
        self.counts = occurrences
        for length in range(1, order):
            before: dict[tuple[int, ...], set[int]] = defaultdict(set)
            for gram in occurrences[length + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[length] = Counter(
                {
                    gram: count if length > 1 and gram[0] == EOS else len(before[gram])
                    for gram, count in occurrences[length].items()
                }
            )

    def discount(self, length: int, count: int) -> float:
        n = Counter(self.counts[length].values())
        usual = [0.0, 0.5, 1.0, 1.5][min(count, 3)]
        if not (n[1] and n[2] and n[3]):
            return usual
        y = n[1] / (n[1] + 2 * n[2])
        found = [0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
        return found[min(count, 3)] if min(found[1:]) > 0 else usual

    def probability(self, history: tuple[int, ...], token: int) -> float:
        """`history` begins with the EOS before the document."""
        return self._of(history[max(0, len(history) - self.order + 1) :], token)

    def _of(self, history: tuple[int, ...], token: int) -> float:
        lower = self._of(history[1:], token) if history else 1.0 / VOCAB
        length = len(history) + 1
        after = {g: c for g, c in self.counts[length].items() if g[:-1] == history}
        if not after:
            return lower
        count = after.get((*history, token), 0)
        gamma = sum(self.discount(length, one) for one in after.values())
        own = max(0.0, count - self.discount(length, count))
        return (own + gamma * lower) / sum(after.values())


def documents(seed: int, count: int) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [
        [1 + min(int(draw.geometric(0.35)), VOCAB - 2) for _ in range(draw.integers(0, 7))]
        for _ in range(count)
    ]


def stream(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([token for row in rows for token in (*row, EOS)], dtype=np.int64)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [3, 120])  # too few for the discounts' estimate, and enough
def test_probabilities_equal_a_slow_oracle(order: int, count: int) -> None:
    learned, heldout = documents(1, count), documents(2, 25)
    oracle = Oracle(learned, order)
    wanted = [
        oracle.probability((EOS, *row[:place]), token)
        for row in heldout
        for place, token in enumerate([*row, EOS])
    ]
    model = NgramModel(stream(learned), order=order, vocab_size=VOCAB, eos=EOS)
    assert model.probabilities(stream(heldout)) == pytest.approx(wanted, rel=1e-12)


def test_the_oracle_estimates_discounts_on_the_larger_corpus() -> None:
    oracle = Oracle(documents(1, 120), 3)
    assert oracle.discount(3, 1) not in (0.0, 0.5)  # else nothing was tested above


@pytest.mark.parametrize("history", [(), (1,), (2, 1), (7, 7, 7, 7), (8, 8)])
def test_probabilities_sum_to_one_after_any_history(history: tuple[int, ...]) -> None:
    model = NgramModel(stream(documents(3, 60)), order=4, vocab_size=VOCAB, eos=EOS)
    found = [
        model.probabilities(np.array([*history, token], dtype=np.int64))[-1]
        for token in range(VOCAB)
    ]
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-12)
    assert min(found) > 0


def test_bigrams_by_hand() -> None:
    # Documents "1 2" and "1 3"; bigrams: (EOS 1) twice, (1 2), (1 3), (2 EOS), (3 EOS) once each.
    model = NgramModel(stream([[1, 2], [1, 3]]), order=2, vocab_size=4, eos=EOS)
    # Distinct tokens before: 1: {EOS}, 2: {1}, 3: {1}, EOS: {2, 3}; 5 in all, discounts 0.5 of
    # the three 1s and 1.0 of the 2, reserved 2.5.
    lower_two = (1 - 0.5 + 2.5 / 4) / 5
    # After 1: counts 1 and 1, each less 0.5; reserved 1.0 of 2.
    assert model.probabilities(np.array([1, 2]))[1] == pytest.approx((0.5 + 1.0 * lower_two) / 2)
    # After the EOS before a document: 2 of 2, less 1.0.
    lower_one = (1 - 0.5 + 2.5 / 4) / 5
    assert model.probabilities(np.array([1]))[0] == pytest.approx((1.0 + 1.0 * lower_one) / 2)


def test_a_document_sees_nothing_of_the_one_before() -> None:
    model = NgramModel(stream(documents(4, 60)), order=4, vocab_size=VOCAB, eos=EOS)
    alone = model.probabilities(stream([[2, 3]]))
    behind = model.probabilities(stream([[5, 1, 4], [2, 3]]))
    assert np.array_equal(behind[-3:], alone)
