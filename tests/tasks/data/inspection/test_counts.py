"""Lengths, tokens, preferences, agreement and languages, by hand."""

from pathlib import Path

import numpy as np
import pytest

from tasks.data.inspection.inspector import inspect_datasets
from tasks.data.inspection.languages import find_languages, script_of
from tasks.data.inspection.lengths import choose_edges, count_bins, find_truncation
from tasks.data.inspection.pairs import find_agreement
from tasks.data.inspection.records import Sizes, TokenLimits
from tests.tasks.data.inspection.by_hand import write

BYTES = TokenLimits(
    encode=lambda texts: [list(text.encode()) for text in texts],
    sft=10,
    reward=8,
    prompts=5,
    context=20,
)
"""A token a byte."""


def test_preferences_are_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "chosen": "abcd", "rejected": "ab", "margin": 1.0},  # differ from 2 on
        {"prompt": "p", "chosen": "abcd", "rejected": "xy", "margin": 1.0},  # from 0 on
        {"prompt": "q", "chosen": "long", "rejected": "a", "margin": 0.5},
        {"prompt": "q", "chosen": "b", "rejected": "long", "margin": 0.0},
        {"prompt": "r", "chosen": "ab", "rejected": "ac", "margin": 0.0},  # equally long; from 1 on
        {"prompt": "r", "chosen": "ab", "rejected": "a", "margin": 0.0, "tie": True},
    ]
    pairs = inspect_datasets(write(tmp_path, preferences_train=rows)).pairs
    assert pairs is not None
    assert (pairs.pairs, pairs.ties, pairs.prompts, pairs.most_pairs) == (5, 1, 3, 2)
    assert pairs.equal_length == 1
    # Longer in three of four. Wilson, z = 1.96: centre (3 + 1.92) / (4 + 3.84) = 0.6275, half
    # width 1.96 / 7.84 * sqrt(3 * 1 / 4 + 0.96) = 0.327.
    longer = pairs.chosen_longer()
    assert longer.mean == 0.75
    assert longer.low == pytest.approx(0.301, abs=1e-3)
    assert longer.high == pytest.approx(0.954, abs=1e-3)
    assert pairs.margins == {"1": 2, "0": 2, "0.5": 1}
    assert pairs.first_difference is not None
    assert (pairs.first_difference.median, pairs.first_difference.maximum) == (0.0, 2)
    assert sum(pairs.difference.counts) == 5


def test_pairs_that_are_all_equally_long_have_no_share(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    found = inspect_datasets(write(tmp_path, preferences_train=rows))
    assert found.pairs is not None
    assert found.pairs.unequal == 0
    assert "data/chosen_longer_share" not in found.metrics()


def test_agreement_is_of_two_judgements_of_one_pair() -> None:
    # Pair 7 was judged three times, twice for the second side: of three couples one is equal.
    # Pair 8 twice, alike: one of one. Pair 9 once. So two of four couples.
    pairs = np.array([7, 8, 7, 9, 8, 7], dtype=np.uint64)
    turned = np.array([True, False, False, True, False, True])
    found = find_agreement(pairs, turned)
    assert found is not None
    assert (found.pairs, found.judgements, found.equal) == (2, 5, 0.5)
    assert find_agreement(pairs[:2], turned[:2]) is None
    assert find_agreement(pairs[:0], turned[:0]) is None


def test_tokens_and_words_are_those_of_a_sample(tmp_path: Path) -> None:
    rows = [{"prompt": "ab", "completion": "c d é"} for _ in range(3)]
    found = inspect_datasets(write(tmp_path, demonstrations_train=rows), limits=BYTES)
    columns = found.collections[1].columns
    assert columns["completion"].words == Sizes(median=3.0, p95=3.0, maximum=3, total=9)
    assert columns["completion"].tokens == Sizes(median=6.0, p95=6.0, maximum=6, total=18)
    assert [one.collection for one in found.truncations] == ["demonstrations"]


def test_truncation_counts_what_a_limit_cuts_and_leaves_out() -> None:
    rows = [
        {"prompt": "123", "chosen": "1234", "rejected": "1"},  # 8 tokens with EOS: fits
        {"prompt": "1234", "chosen": "1", "rejected": "1234"},  # 9: the prompt loses one
        {"prompt": "1", "chosen": "1234567", "rejected": "1"},  # the completion fills the limit
        {"prompt": "1", "chosen": "same", "rejected": "same"},
    ]
    found = find_truncation("preferences", rows, BYTES)
    assert found is not None
    assert (found.limit, found.rows) == (8, 4)
    assert (found.cut, found.dropped, found.equal) == (1, 1, 1)
    assert find_truncation("corpus", [{"text": "a"}], BYTES) is None
    prompts = find_truncation("prompts", [{"prompt": "12345"}, {"prompt": "123456"}], BYTES)
    assert prompts is not None
    assert (prompts.limit, prompts.cut, prompts.dropped) == (5, 1, 0)


def test_bins_grow_where_a_few_texts_are_very_long() -> None:
    even = choose_edges([1, 2, 3])
    assert even.tolist() == [0, 1, 2, 3, 4]
    growing = choose_edges([*[10] * 99, 100_000])
    ratios = growing[1:] / growing[:-1]
    assert ratios == pytest.approx(np.full(len(ratios), ratios[0]))
    assert sum(count_bins([0, 10, 100_000], growing).counts) == 3  # none is lost at the ends


def test_languages_are_known_by_their_texts() -> None:
    english = "The weather was lovely and we walked along the river until the evening."
    german = "Das Wetter war schön und wir gingen bis zum Abend am Fluss entlang."
    chinese = "天气很好，我们沿着河边一直走到晚上才回家。"
    found = find_languages([english, english, german, chinese])
    assert found.shares == {"en": 0.5, "de": 0.25, "zh": 0.25}
    assert (found.texts, found.known, found.share("en")) == (4, 4, 0.5)


def test_a_script_is_named_where_a_language_is_unsure() -> None:
    found = find_languages(["ok", "?!"])
    assert found.share("en") == 0.0
    assert found.scripts == {"latin": 0.5, "no letters": 0.5}
    assert script_of("привет, мир a") == "cyrillic"
    assert script_of("中文") == "cjk"
