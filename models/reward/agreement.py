"""Agreement of two reward models on the same pairs, and whether they err together."""

from dataclasses import dataclass

import numpy as np

from models.statistics.clustered import Groups, clustered_interval
from models.statistics.intervals import Floats, Interval, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two reward models on the same pairs.

    Attributes:
        alike: Share of pairs that both rank alike, with its 95% interval.
        kappa: Cohen's kappa of being right, 0 if they err independently, 1 if on the same pairs;
            NaN where neither ever errs, or neither ever succeeds.
        judge_accuracy: Of the second reward model.
    """

    alike: Interval
    kappa: Interval
    judge_accuracy: Interval


def agreement(
    first: Floats, second: Floats, prompts: Groups, resamples: int, seed: int
) -> Agreement:
    """Compare the verdicts of two reward models on the same pairs.

    Args:
        first: Margins of the one, (pairs,).
        second: Margins of the other, (pairs,).
        prompts: Number of each pair's prompt, (pairs,).
        resamples: How often the prompts are drawn anew.
        seed: Of the drawing.

    Source:
        Cohen, A Coefficient of Agreement for Nominal Scales (1960).
    """
    a, b = first > 0, second > 0
    cells = np.stack([a & b, a & ~b, ~a & b, ~a & ~b], axis=1).astype(float)  # (pairs, 4)
    return Agreement(
        alike=clustered_interval(
            cells, lambda c: (c[:, 0] + c[:, 3]) / c.sum(axis=1), prompts, resamples, seed
        ),
        kappa=clustered_interval(cells, _kappa, prompts, resamples, seed),
        judge_accuracy=wilson_interval(int(b.sum()), len(b)),
    )


def _kappa(cells: Floats) -> Floats:
    """Cohen's kappa of tables of both right, first only, second only, both wrong, (tables, 4)."""
    both, first, second, neither = cells.T / cells.sum(axis=1)
    seen = both + neither
    by_chance = (both + first) * (both + second) + (neither + first) * (neither + second)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(by_chance < 1, (seen - by_chance) / (1 - by_chance), np.nan))
