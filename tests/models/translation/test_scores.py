"""BLEU and its intervals: by hand, against sacrebleu itself, and against a plain bootstrap."""

from typing import Any

import numpy as np
import pytest
import sacrebleu

from models.errors import DataError
from models.translation.scores import compare_translations, score_translations

TEXT = "a man in the red hat rides his old bike down a long dusty road past two dogs"
WORDS = TEXT.split()


def rows(seed: int, errors: float, count: int = 40) -> list[dict[str, Any]]:
    """Sources of 3 to 20 words; references are the same; some words of translations are wrong."""
    lengths = np.random.default_rng(0)
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        words = [WORDS[(number * 7 + at) % len(WORDS)] for at in range(lengths.integers(3, 21))]
        made = ["cat" if draw.random() < errors else word for word in words]
        texts = {"source": words, "target": words, "translation": made}
        found.append({name: " ".join(one) for name, one in texts.items()})
    return found


def corpus_bleu(some: list[dict[str, Any]]) -> float:
    made, wanted = ([row[side] for row in some] for side in ("translation", "target"))
    return float(sacrebleu.corpus_bleu(made, [wanted]).score)


def test_bleu_by_hand() -> None:
    # "the cat sat" / "the cat sat down": 1- to 3-grams all match, there is no 4-gram; the brevity
    # penalty is exp(1 - 4/3). With a second row of 4 words, all right: precisions 1, length 7 of 8.
    pairs = [("the cat sat", "the cat sat down"), ("two dogs run home", "two dogs run home")]
    some = [{"source": "x", "target": want, "translation": made} for made, want in pairs]
    scores = score_translations(some, seed=0)
    assert scores.bleu["all"].mean == pytest.approx(100 * np.exp(1 - 8 / 7))
    assert scores.rouge["rouge1"].mean == pytest.approx((6 / 7 + 1) / 2)  # P 1, R 3/4: F 6/7
    assert scores.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_bleu_of_each_length_is_sacrebleus_and_lies_in_its_interval() -> None:
    some = rows(1, 0.2)
    scores = score_translations(some, seed=0)
    groups = {
        "all": some,
        "short": [row for row in some if len(row["source"].split()) <= 10],
        "middle": [row for row in some if 11 <= len(row["source"].split()) <= 15],
        "long": [row for row in some if len(row["source"].split()) > 15],
    }
    assert scores.rows == {name: len(group) for name, group in groups.items()}
    for name, group in groups.items():
        one = scores.bleu[name]
        assert one.mean == pytest.approx(corpus_bleu(group))
        assert one.low < one.mean < one.high
    metrics = scores.metrics("translate")
    assert metrics["translate/bleu_long_low"] == scores.bleu["long"].low
    assert metrics["translate/bleu"] == scores.bleu["all"].mean


def test_interval_equals_a_plain_bootstrap_of_whole_corpora() -> None:
    some = rows(2, 0.3, count=15)
    found = score_translations(some, seed=7, resamples=100).bleu["all"]
    draw = np.random.default_rng(7)
    scores = [corpus_bleu([some[at] for at in draw.integers(0, 15, 15)]) for _ in range(100)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))


def test_comparison_is_paired() -> None:
    first, second = rows(3, 0.3), rows(4, 0.15)
    gain = compare_translations(first, second, seed=0)
    assert gain["all"].mean == pytest.approx(corpus_bleu(second) - corpus_bleu(first))
    assert gain["all"].low > 0
    nothing = compare_translations(first, first, seed=0)["all"]  # were it not, it would vary
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)


def test_comparison_refuses_other_rows() -> None:
    with pytest.raises(DataError, match="same held-out rows"):
        compare_translations(rows(1, 0.2), rows(1, 0.2)[::-1], seed=0)
    with pytest.raises(DataError, match="got 40 and 39 rows"):
        compare_translations(rows(1, 0.2), rows(1, 0.2)[:-1], seed=0)
    with pytest.raises(DataError, match="no translations"):
        score_translations([], seed=0)


def test_rouge_leaves_out_rows_that_it_cannot_read() -> None:
    rows = [
        {"source": "x", "target": target, "translation": target}
        for target in ("да", "a dog ran", "你好", "a cat sat")
    ]
    found = score_translations(rows, seed=0, resamples=20).rouge["rouge1"]
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
