"""Masking: which tokens are chosen, what is seen in their place, where the loss counts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.objectives.config import MaskingConfig
from models.objectives.masking import IGNORED, MaskTokens, mask_tokens
from tests.models.objectives.tiny import seeded

SPECIAL = frozenset(range(4))  # pad, mask, cls, sep
TOKENS = MaskTokens(mask=1, special=SPECIAL, others=list(range(4, 24)))


@given(
    ids=st.lists(st.integers(0, 23), min_size=1, max_size=60),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 2**32),
)
def test_the_share_is_exact_and_only_chosen_tokens_count(
    ids: list[int], share: float, seed: int
) -> None:
    masked = mask_tokens(ids, [], TOKENS, MaskingConfig(share=share), seeded(seed))
    chosen = [at for at, label in enumerate(masked.labels) if label != IGNORED]
    candidates = sum(id not in SPECIAL for id in ids)
    assert len(chosen) == (max(1, round(share * candidates)) if candidates else 0)
    for at, (id, seen, label) in enumerate(zip(ids, masked.input_ids, masked.labels, strict=True)):
        assert label == (id if at in chosen else IGNORED)
        assert id not in SPECIAL or (at not in chosen and seen == id)
        assert at in chosen or seen == id


def test_eight_of_ten_are_masked_one_is_random_one_stays() -> None:
    ids = [2, *[5] * 100, 3]
    kinds: Counter[str] = Counter()
    replaced: Counter[int] = Counter()
    places: Counter[int] = Counter()
    generator = seeded()
    for _ in range(2000):
        masked = mask_tokens(ids, [], TOKENS, MaskingConfig(), generator)
        for at, (seen, label) in enumerate(zip(masked.input_ids, masked.labels, strict=True)):
            if label == IGNORED:
                continue
            places[at] += 1
            kinds["mask" if seen == 1 else "same" if seen == 5 else "random"] += 1
            replaced[seen] += 1
    assert sum(kinds.values()) == 2000 * 15
    # Of 30,000 draws five standard deviations are 5 * sqrt(30,000 * 0.8 * 0.2) = 346 for masks,
    # and 5 * sqrt(30,000 * 0.1 * 0.9) = 260 for the others. A random token is the right one in
    # one case of twenty: 3,000 * 19 / 20 are seen as random, the rest as the same.
    assert abs(kinds["mask"] - 24_000) < 346
    assert abs(kinds["random"] - 2_850) < 260
    assert abs(kinds["same"] - 3_150) < 260
    assert replaced.keys() == {1, *TOKENS.others}
    others = [count for id, count in replaced.items() if id not in (1, 5)]
    assert chisquare(others).pvalue > 1e-4
    assert chisquare([places[at] for at in range(1, 101)]).pvalue > 1e-4


def test_shares_of_kinds_are_the_configs() -> None:
    for config, expected in (
        (MaskingConfig(mask_share=1.0, random_share=0.0), {1}),
        (MaskingConfig(mask_share=0.0, random_share=0.0), {5}),
    ):
        masked = mask_tokens([5] * 50, [], TOKENS, config, seeded())
        pairs = zip(masked.input_ids, masked.labels, strict=True)
        assert {seen for seen, label in pairs if label != IGNORED} == expected
    with pytest.raises(ValueError, match="exceed 1"):
        MaskingConfig(mask_share=0.8, random_share=0.3)


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=20),
    share=st.floats(0.05, 1),
    seed=st.integers(0, 2**32),
)
def test_whole_words_are_chosen_or_none_of_them(
    lengths: list[int], share: float, seed: int
) -> None:
    begins = [1 + sum(lengths[:word]) for word in range(len(lengths))]
    total = sum(lengths)
    ids = [2, *[7] * total, 3]
    config = MaskingConfig(share=share, whole_words=True)
    masked = mask_tokens(ids, [0, *begins, total + 1], TOKENS, config, seeded(seed))
    chosen = {at for at, label in enumerate(masked.labels) if label != IGNORED}
    words = [set(range(at, at + length)) for at, length in zip(begins, lengths, strict=True)]
    hit = [word for word in words if word & chosen]
    assert chosen == set().union(*hit)
    assert hit
    wanted = max(1, round(share * total))
    assert len(chosen) <= wanted or (len(hit) == 1 and min(lengths) > wanted)


def test_a_generators_state_decides_the_masks() -> None:
    ids = list(range(4, 24)) * 3
    rows = [mask_tokens(ids, [], TOKENS, MaskingConfig(), seeded(seed)) for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]
