"""Measures of held-out rows by hand, and the baselines."""

import math

import pytest

from models.heads.baseline import bag_of_words_accuracy
from models.heads.measures import Predictions, correlations, majority_accuracy, measure
from models.statistics.intervals import wilson_interval
from tests.models.heads.conftest import ENTAILMENT, SIMILARITY


def test_accuracy_has_its_wilson_interval() -> None:
    found = measure(
        Predictions(values=[0.0, 2.0, 1.0, 1.0], probabilities=[], losses=[0.5, 1.0, 0.0, 0.5]),
        [0.0, 2.0, 0.0, 1.0],
        ENTAILMENT,
    )
    share = wilson_interval(3, 4)
    assert found == {
        "understand/heldout_loss": 0.5,
        "understand/accuracy": 0.75,
        "understand/accuracy_low": share.low,
        "understand/accuracy_high": share.high,
    }


def test_correlations_and_their_interval() -> None:
    # Means 2 and 3: covariance (1*1 + 0 - 1*-2 ... ) by hand: x = -1.5 -0.5 0.5 1.5, y = -2 0 -1 3
    predictions, labels = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 6.0]
    r = (3.0 + 0.0 - 0.5 + 4.5) / math.sqrt(5.0 * 14.0)
    pearson, spearman = correlations(predictions, labels)
    assert pearson.mean == pytest.approx(r)
    # Fisher: atanh(r) +- 1.96 / sqrt(4 - 3)
    assert pearson.low == pytest.approx(math.tanh(math.atanh(r) - 1.959964), abs=1e-6)
    assert pearson.high == pytest.approx(math.tanh(math.atanh(r) + 1.959964), abs=1e-6)
    assert spearman == pytest.approx(1 - 6 * (0 + 1 + 1 + 0) / (4 * 15))
    assert correlations([1.0, 1.0], [1.0, 2.0])[0].mean == 0.0
    found = measure(
        Predictions(values=predictions, probabilities=[], losses=[1.0] * 4), labels, SIMILARITY
    )
    assert found["understand/correlation"] == pearson.mean
    assert found["understand/spearman"] == spearman


def test_predictions_stand_beside_their_rows() -> None:
    rows = [{"texts": ["a"], "label": 1}, {"texts": ["b"], "label": 0}]
    both = [[0.25, 0.75], [0.5, 0.5]]
    found = Predictions(values=[1.0, 0.0], probabilities=both, losses=[]).rows(rows)
    assert found[0] == {
        "texts": ["a"], "label": 1, "prediction": 1, "probabilities": [0.25, 0.75]
    }  # fmt: skip
    scores = Predictions(values=[2.5, 1.0], probabilities=[], losses=[]).rows(rows)
    assert scores[1] == {"texts": ["b"], "label": 0, "prediction": 1.0}


def test_majority_is_the_training_rows_most_frequent_label() -> None:
    assert majority_accuracy([0, 1, 1], [1, 0, 0, 0]) == 0.25
    assert majority_accuracy([1, 0], [0, 0, 1]) == 2 / 3  # of equal ones the smallest


def test_bag_of_words_knows_words_and_the_text_in_which_they_stand() -> None:
    learned = [
        {"texts": [text], "label": label}
        for text, label in (("a Good film", 1), ("bad film", 0), ("good plot", 1), ("a bad one", 0))
    ]
    unknown = [{"texts": ["a good one"], "label": 1}, {"texts": ["BAD"], "label": 0}]
    assert bag_of_words_accuracy(learned, unknown) == 1.0
    first = [{"texts": ["x", "y"], "label": 1}, {"texts": ["y", "x"], "label": 0}] * 3
    assert bag_of_words_accuracy(first, first) == 1.0
    assert bag_of_words_accuracy(learned[:1], unknown) == 0.5  # one class only
    signs = [{"texts": ["!!", "🙂"], "label": 1}, {"texts": ["?", ""], "label": 0}] * 2
    assert bag_of_words_accuracy([*signs, signs[0]], signs) == 0.5  # no words: the majority
    mixed = [{"texts": [row["texts"][0], "!"], "label": row["label"]} for row in learned]
    assert bag_of_words_accuracy(mixed, mixed) == 1.0  # the second text has none
