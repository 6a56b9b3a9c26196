"""How the SFT model's completions end before PPO, and whether the reward model likes that.

Completions that are cut at the limit usually score lower. Where many are cut, PPO can gain by
ending rather than by being better: so it is measured beforehand how many end, what the score hangs
on, and which limit would let nearly all of them end.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.statistics.controlled import Extent
from models.statistics.intervals import Floats, Interval, bootstrap_interval, clustered_interval

ENOUGH = 0.9
"""Share of completions that should end by themselves."""
NEARLY_ALL = 0.95
"""Share that would end within the limit that is proposed."""
LATE = 0.75
"""Where the last part of a completion begins, as a share of the limit."""
TOKENS = 10
"""Difference of length for which the difference of the score is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """How completions of one model end; what is compared is so within prompts.

    Attributes:
        limit: Most tokens of a completion.
        ended: Share that end by themselves.
        length: Mean tokens.
        wanted: A limit within which NEARLY_ALL would end; NaN where the samples do not tell.
        per_tokens: By how much a completion of TOKENS more scores higher, if both end alike.
        for_ending: By how much one that ends scores higher than one that is cut, if both are as
            long; no interval where none is cut, or all are.
    """

    limit: int
    ended: Interval
    length: Interval
    wanted: float
    per_tokens: Interval
    for_ending: Interval

    @property
    def few(self) -> bool:
        """Whether fewer end than should."""
        return not self.ended.mean >= ENOUGH

    def metrics(self) -> dict[str, float]:
        """Name every number that is one, `reward_quality/...`."""
        named = {
            **self.ended.metrics("sft_ended"),
            "sft_length": self.length.mean,
            "sft_limit_wanted": self.wanted,
            **self.per_tokens.metrics(f"score_per_{TOKENS}_tokens"),
            **self.for_ending.metrics("score_for_ending"),
        }
        return {f"reward_quality/{n}": v for n, v in named.items() if math.isfinite(v)}


def measure_endings(
    scores: Floats, extent: Extent, limit: int, *, resamples: int, seed: int
) -> Endings:
    """Measure one model's scored completions.

    Args:
        scores: Of the reward model, (prompts, samples).
        limit: Most tokens of a completion.
    """
    per_token, for_ending = _hangs_on(scores, extent, resamples, seed)
    return Endings(
        limit=limit,
        ended=bootstrap_interval(extent.ended.mean(axis=1), resamples, seed),
        length=bootstrap_interval(extent.lengths.mean(axis=1), resamples, seed),
        wanted=limit_wanted(extent, limit),
        per_tokens=Interval(
            mean=TOKENS * per_token.mean, low=TOKENS * per_token.low, high=TOKENS * per_token.high
        ),
        for_ending=for_ending,
    )


def limit_wanted(extent: Extent, limit: int) -> float:
    """Estimate the limit within which NEARLY_ALL of the completions would end.

    Those that are cut are taken to end, token by token, as often as completions did in the last
    part before the limit.

    Returns:
        The limit itself where as many end already; NaN where none ended in the last part.
    """
    cut = float((~extent.ended).mean())
    if cut <= 1 - NEARLY_ALL:
        return float(limit)
    late = LATE * limit
    ends = float((extent.ended & (extent.lengths > late)).sum())
    tokens = float(np.maximum(extent.lengths - late, 0).sum())
    if not ends:
        return math.nan
    more = math.log((1 - NEARLY_ALL) / cut) / math.log1p(-min(ends / tokens, 0.999))
    return float(limit + math.ceil(more))


def _hangs_on(
    scores: Floats, extent: Extent, resamples: int, seed: int
) -> tuple[Interval, Interval]:
    """Regress scores on length and ending within prompts: both coefficients, by prompts."""
    length, ended, score = (
        (one - one.mean(axis=1, keepdims=True)).ravel()
        for one in (extent.lengths, extent.ended.astype(float), scores)
    )
    prompts = np.repeat(np.arange(len(scores)), scores.shape[1])
    table = np.stack(
        [length * length, length * ended, ended * ended, length * score, ended * score], axis=1
    )
    per_token, for_ending = (
        clustered_interval(table, statistic, prompts, resamples, seed)
        for statistic in (
            lambda sums: _solved(sums)[0],
            lambda sums: _solved(sums)[1],
        )
    )
    return per_token, for_ending


def _solved(sums: Floats) -> tuple[Floats, Floats]:
    """Solve the normal equations of each row of sums; NaN for what does not vary, (rows,) each."""
    ll, le, ee, ls, es = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = ll * ee - le * le
        both = determinant > 1e-9 * ll * ee
        alone = np.where(ll > 0, ls / ll, np.nan)
        per_token = np.where(both, (ee * ls - le * es) / determinant, alone)
        for_ending = np.where(both, (ll * es - le * ls) / determinant, np.nan)
    return per_token, for_ending
