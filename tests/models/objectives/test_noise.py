"""BART's noises, one by one and mixed, against what the paper says of each."""

import math
from collections import Counter
from itertools import chain, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, poisson

from models.objectives.config import DenoisingConfig
from models.objectives.documents import Piece
from models.objectives.noise import (
    MASKED,
    add_noise,
    delete,
    draw_spans,
    infill,
    mask_places,
    permute_sentences,
    rotate,
)
from tests.models.objectives.tiny import seeded

MASK = 999
PIECE = Piece(ids=list(range(100, 140)), words=[0], sentences=[0, 10, 13, 30])
NONE = DenoisingConfig(text_infilling=0.0, sentence_permutation=0.0)


def noisy(seed: int = 0, **noises: Any) -> list[int]:
    return add_noise(PIECE, NONE.model_copy(update=noises), MASK, seeded(seed))


def test_without_noise_a_document_is_itself() -> None:
    assert noisy() == PIECE.ids


def test_token_masking_replaces_an_exact_share() -> None:
    found = noisy(token_masking=0.3)
    assert found.count(MASK) == 12  # 0.3 * 40
    assert all(seen in (MASK, id) for seen, id in zip(found, PIECE.ids, strict=True))


def test_token_deletion_removes_an_exact_share_and_keeps_the_order() -> None:
    found = noisy(token_deletion=0.25)
    assert len(found) == 30
    assert found == [id for id in PIECE.ids if id in found]


def test_text_infilling_covers_an_exact_share_with_one_mask_a_span() -> None:
    for seed in range(50):
        found = noisy(seed, text_infilling=0.3)
        kept = [id for id in found if id != MASK]
        assert len(kept) == 28  # 40 - 0.3 * 40
        assert kept == [id for id in PIECE.ids if id in kept]


def test_sentences_are_shuffled_whole() -> None:
    sentences = [PIECE.ids[:10], PIECE.ids[10:13], PIECE.ids[13:30], PIECE.ids[30:]]
    orders = {tuple(chain(*order)) for order in permutations(sentences)}
    seen = Counter(tuple(noisy(seed, sentence_permutation=1.0)) for seed in range(1200))
    assert seen.keys() == orders  # all 24, and nothing else
    assert chisquare(list(seen.values())).pvalue > 1e-4


def test_rotation_keeps_the_cyclic_order_and_begins_anywhere() -> None:
    seen = Counter(tuple(noisy(seed, document_rotation=1.0)) for seed in range(2000))
    assert seen.keys() == {(*PIECE.ids[at:], *PIECE.ids[:at]) for at in range(40)}
    assert chisquare(list(seen.values())).pvalue > 1e-4


@pytest.mark.parametrize("noise", ["sentence_permutation", "document_rotation"])
def test_a_share_of_the_documents_is_shuffled_or_rotated(noise: str) -> None:
    same = sum(noisy(seed, **{noise: 0.5}) == PIECE.ids for seed in range(2000))
    chance = {"sentence_permutation": 1 / 24, "document_rotation": 1 / 40}[noise]
    assert abs(same - 2000 * (0.5 + 0.5 * chance)) < 5 * 22.4  # five standard deviations


def test_spans_are_poisson_and_end_at_the_share() -> None:
    spans = draw_spans(30_000, 3.0, seeded())
    assert sum(spans) == 30_000
    seen = Counter(spans[:-1])  # the last one may be cut
    count = len(spans) - 1
    expected = [count * poisson.pmf(length, 3) for length in range(9)]
    tail = count - sum(expected)
    found = [seen[length] for length in range(9)]
    assert chisquare([*found, count - sum(found)], [*expected, tail]).pvalue > 1e-4
    assert seen[0] == pytest.approx(count * math.exp(-3), rel=0.1)  # masks that are inserted
    assert draw_spans(0, 3.0, seeded()) == []


@given(
    spans=st.lists(st.integers(0, 4), max_size=6),
    kept=st.integers(0, 10),
    seed=st.integers(0, 2**32),
)
def test_each_mask_stands_for_its_span(spans: list[int], kept: int, seed: int) -> None:
    tokens = list(range(sum(spans) + kept))
    found = infill(tokens, spans, seeded(seed))
    # The slow oracle: put each span back where its mask stands.
    restored: list[int] = []
    lengths = iter(spans)
    for one in found:
        more = range(len(restored), len(restored) + next(lengths)) if one == MASKED else [one]
        restored += more
    assert restored == tokens
    assert found.count(MASKED) == len(spans)


def test_every_arrangement_of_spans_has_the_same_probability() -> None:
    # Two kept tokens and two masks, the first for two tokens, the second for none: of four places
    # two are masks, 6 ways.
    generator = seeded()
    seen = Counter(tuple(infill([0, 1, 2, 3], [2, 0], generator)) for _ in range(3000))
    m = MASKED
    assert seen.keys() == {
        (m, m, 2, 3), (m, 2, m, 3), (m, 2, 3, m), (0, m, m, 3), (0, m, 3, m), (0, 1, m, m)
    }  # fmt: skip
    assert chisquare(list(seen.values())).pvalue > 1e-4


def test_mixed_noises_share_no_token() -> None:
    config: dict[str, Any] = {"text_infilling": 0.2, "token_masking": 0.2, "token_deletion": 0.2}
    for seed in range(20):
        found = noisy(seed, sentence_permutation=1.0, document_rotation=1.0, **config)
        kept = [id for id in found if id != MASK]
        assert len(kept) == len(set(kept)) == 40 - 3 * 8
        assert set(kept) <= set(PIECE.ids)


def test_tokens_that_are_masked_are_neither_masked_again_nor_deleted() -> None:
    tokens = [MASKED, 1, MASKED, 2, MASKED]
    assert mask_places(tokens, 9, seeded()) == [MASKED] * 5
    assert delete(tokens, 9, seeded()) == [MASKED] * 3
    assert len(delete([1, 2, 3], 3, seeded())) == 1  # something is left to read


def test_functions_take_the_generator_they_are_given() -> None:
    for noise in (rotate, lambda t, g: permute_sentences(t, [0, 3, 5, 7], g)):
        found = [noise(range(9), seeded(seed)) for seed in (1, 1, 5)]  # type: ignore[operator]
        assert found[0] == found[1] != found[2]
