"""The gain at equal length and ending: what is left of a gain when the two models' answers are as
long and end as often.

Much of what a model gains under a learned judge can be length, or that its answers end rather than
are cut at the limit. So the paired differences of the scores are regressed on those of length and
ending; the intercept is the gain of a pair that differs in neither. Length enters as a restricted
cubic spline, for judges' likings are not straight: with a straight line, a model that is shorter
and no better is found better far too often under a judge that likes one length best, or all below
some length. Three knots hold the level in all simulations (tests/benchmarks/controlled_gain.py),
and more of them only widen the interval.

Prompts are independent, samples of one prompt are not: they are averaged first, and the variance is
HC3, a jackknife over prompts, which no unequal spread of the scores misleads. Degrees of freedom
are those of the prompts that the intercept hangs on: where one model ends always and the other
nearly never, it hangs on few.

Sources: Dubois et al., Length-Controlled AlpacaEval (2024), section 3; Harrell, Regression Modeling
Strategies (2015), section 2.4.5, the knots; MacKinnon and White, Some Heteroskedasticity-Consistent
Covariance Matrix Estimators (1985), HC3; Bell and McCaffrey, Bias Reduction in Standard Errors
(2002), degrees of freedom.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.errors import DataError
from models.statistics.intervals import Flags, Floats, Interval

KNOTS = (0.1, 0.5, 0.9)
"""Quantiles of the lengths of both models at which the spline bends."""

_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extent:
    """How long one model's completions are, and whether they end.

    Attributes:
        lengths: Tokens or words, (prompts, samples).
        ended: By themselves; the others were cut, (prompts, samples).
    """

    lengths: Floats
    ended: Flags

    def of_prompts(self, which: Flags) -> "Extent":
        """Those of some prompts, (prompts,)."""
        return Extent(lengths=self.lengths[which], ended=self.ended[which])

    def of_first_samples(self, prompts: int) -> "Extent":
        """The first sample of each of the first prompts."""
        return Extent(lengths=self.lengths[:prompts, :1], ended=self.ended[:prompts, :1])


def controlled_gain(gains: Floats, baseline: Extent, model: Extent) -> Interval:
    """Estimate the mean gain of the model over the baseline at equal length and ending.

    Args:
        gains: Of each prompt, (prompts,): the model's score less the baseline's, or how often its
            completion is preferred, less one half; NaN where a prompt was not judged, and it is
            left out.
        baseline: Of the model that is compared with.

    Returns:
        The gain with its 95% interval. All NaN where it cannot be told: a gain is infinite, there
        are too few prompts, or all pairs differ alike in length or ending, so that none shows what
        would be at equal ones.

    Raises:
        DataError: The arrays are not of the same prompts.
    """
    prompts = [len(gains), len(baseline.lengths), len(model.lengths)]
    if len(set(prompts)) != 1:
        raise DataError(
            f"gains, baseline and model are of {prompts[0]}, {prompts[1]} and {prompts[2]} prompts;"
            " wanted the same ones throughout: measure both models on one list of prompts"
        )
    judged = ~np.isnan(gains)
    if not judged.any() or np.isinf(gains).any():
        return Interval(mean=math.nan)
    sides = [one.of_prompts(judged) for one in (baseline, model)]
    spline = _Spline(np.concatenate([one.lengths.ravel() for one in sides]))
    first, second = (
        np.concatenate([spline(one.lengths), ~one.ended[..., None]], axis=-1).mean(axis=1)
        for one in sides
    )  # (prompts, columns)
    return _intercept(gains[judged], second - first)


class _Spline:
    """A restricted cubic spline of lengths: cubic between the knots, straight beyond them."""

    def __init__(self, lengths: Floats) -> None:
        self._knots = np.unique(np.quantile(lengths, KNOTS))

    def __call__(self, lengths: Floats) -> Floats:
        """Give the columns of a basis, (…, columns), of like size."""
        *inner, last = self._knots
        if len(inner) < 2:
            return lengths[..., None]
        width = last - inner[0]

        def bend(knot: float) -> Floats:
            rising, falling = (np.maximum(lengths - at, 0.0) ** 3 for at in (knot, last))
            return np.asarray((rising - falling) / (last - knot) / width)

        bends = [bend(knot) - bend(inner[-1]) for knot in inner[:-1]]
        return np.stack([lengths, *bends], axis=-1)


def _intercept(gains: Floats, differences: Floats) -> Interval:
    """Regress gains, (prompts,), on differences, (prompts, columns), for the intercept."""
    from scipy.stats import t  # takes 0.6 s to import: only where something is measured

    size = np.abs(differences).max(axis=0)
    columns = differences[:, size > _NOTHING] / size[size > _NOTHING]
    count = len(gains)
    ones = np.ones(count)
    left = ones - columns @ np.linalg.lstsq(columns, ones, rcond=None)[0]
    if left @ left < _NOTHING * count:
        return Interval(mean=math.nan)  # the columns say all that an intercept would
    weights = left / (left @ left)  # of each prompt in the intercept
    design = np.column_stack([ones, columns])
    basis, values, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, values > _NOTHING * values[0]]
    if count <= basis.shape[1] + 1:
        return Interval(mean=math.nan)
    own = (basis**2).sum(axis=1)  # how much each prompt decides its own fitted value
    alone = own > 1 - _NOTHING
    if (np.abs(weights[alone]) > _NOTHING).any():
        return Interval(mean=math.nan)  # the intercept hangs on a single prompt
    residuals = (gains - basis @ (basis.T @ gains)) / np.where(alone, 1.0, 1 - own)
    error = math.sqrt(float(weights**2 @ residuals**2))
    hangs_on = float((weights**2).sum() ** 2 / (weights**4).sum())
    freedom = min(count - basis.shape[1], hangs_on)
    mean, half = float(weights @ gains), float(t.ppf(0.975, freedom)) * error
    return Interval(mean=mean, low=mean - half, high=mean + half)
