"""How well a head predicts held-out rows, beside what needs no learning."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.heads.formats import Task
from models.statistics.intervals import Interval, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a head says of held-out rows.

    Attributes:
        values: The likeliest class or option of each row, or its score.
        probabilities: Of each row's classes or options; empty for scores.
        losses: Of each row, nats, or squared errors of the standardised score.
    """

    values: list[float]
    probabilities: list[list[float]]
    losses: list[float]

    def rows(self, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Held-out rows with what was predicted, for `predictions.jsonl`."""
        found = []
        for number, row in enumerate(given):
            value = self.values[number]
            one = {"texts": row["texts"], "label": row["label"], "prediction": value}
            if self.probabilities:
                one |= {"prediction": int(value), "probabilities": self.probabilities[number]}
            found.append(one)
        return found


def measure(predictions: Predictions, labels: Sequence[float], task: Task) -> dict[str, float]:
    """Accuracy with its Wilson interval, or correlations; and the mean held-out loss."""
    metrics = {"understand/heldout_loss": float(np.mean(predictions.losses))}
    if task.kind == "regression":
        pearson, spearman = correlations(predictions.values, labels)
        return (
            metrics | pearson.metrics("understand/correlation") | {"understand/spearman": spearman}
        )
    right = sum(one == label for one, label in zip(predictions.values, labels, strict=True))
    return metrics | wilson_interval(right, len(labels)).metrics("understand/accuracy")


def correlations(predictions: Sequence[float], labels: Sequence[float]) -> tuple[Interval, float]:
    """Pearson's correlation with its 95% interval, and Spearman's; 0 for constant predictions.

    Source: Fisher, On the Probable Error of a Coefficient of Correlation (1921), for the interval.
    """
    from scipy.stats import pearsonr, spearmanr  # take 0.6 s to import

    if len(set(predictions)) < 2 or len(set(labels)) < 2:
        return Interval(mean=0.0), 0.0
    found = pearsonr(predictions, labels)
    ends = found.confidence_interval(0.95)
    rank = float(spearmanr(predictions, labels).statistic)
    return Interval(mean=float(found.statistic), low=float(ends.low), high=float(ends.high)), rank


def majority_accuracy(learned: Sequence[float], labels: Sequence[float]) -> float:
    """Held-out accuracy of the training rows' most frequent label; of equal ones the smallest."""
    counts = Counter(learned)
    most = min(counts, key=lambda label: (-counts[label], label))
    return sum(label == most for label in labels) / len(labels)
