"""Best-of-n: what a judge thinks of the completion that a reward model likes best among n.

The cheapest policy against a reward model, and an honest one: nothing is trained, so the judge's
gain is due to the reward model alone. With N samples per prompt, every n up to N is estimated
without bias from all the samples, not from the first n of them.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.errors import ParameterError
from models.statistics.intervals import Floats, Interval, bootstrap_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """The curve under one judge; element n - 1 of each tuple belongs to the best of n.

    Attributes:
        judged: Mean over prompts of the judge's number, with its 95% interval.
        ceiling: The same if the judge itself picked: no reward model can do better.
        lengths: Mean tokens of the picked completions.
        kl: Bound of the KL divergence from the sampled policy, nats per completion.
        gain: Of the largest n over n = 1, with its 95% interval.
    """

    prompts: int
    judged: tuple[Interval, ...]
    ceiling: tuple[float, ...]
    lengths: tuple[float, ...]
    kl: tuple[float, ...]
    gain: Interval

    @property
    def realised(self) -> float:
        """Share of the possible gain that the reward model realises; NaN where there is none."""
        possible = self.ceiling[-1] - self.judged[0].mean
        return self.gain.mean / possible if possible > 1e-12 else math.nan

    def metrics(self, name: str) -> dict[str, float]:
        """Name the ends of the curve and the gain, `reward_quality/<name>_...`."""
        last = len(self.judged)
        named = {
            "best_of_1": self.judged[0].mean,
            f"best_of_{last}": self.judged[-1].mean,
            **self.gain.metrics("best_of_n_gain"),
            "best_of_n_realised": self.realised,
        }
        return {
            f"reward_quality/{name}_{key}": value
            for key, value in named.items()
            if math.isfinite(value)
        }


def best_of_n(scores: Floats, judged: Floats) -> Floats:
    """Estimate the judge's expected number of the best of n by score, for every n up to N.

    With a prompt's samples sorted by score, y_1 worst, a random subset of n has y_i as its best in
    C(i-1, n-1) of C(N, n) cases. Samples of equal score share their chances, as if the tie were
    broken at random.

    Args:
        scores: Of the reward model, (prompts, N).
        judged: The judge's numbers of the same samples, (prompts, N).

    Returns:
        (prompts, N): column n - 1 belongs to the best of n; the first is the plain mean.

    Raises:
        ParameterError: The shapes differ, or there is nothing.

    Source:
        Nakano et al., WebGPT (2021); Gao et al., Scaling Laws for Reward Model Overoptimization
        (2023), which takes the estimator from there.
    """
    if scores.shape != judged.shape or scores.ndim != 2 or not scores.size:
        raise ParameterError(
            f"best-of-n got scores of shape {scores.shape} and judgements of {judged.shape}; "
            "wanted the same (prompts, samples), none of them 0; judge the samples that were scored"
        )
    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    values = np.take_along_axis(judged, order, axis=1)
    shared = np.stack([_share_ties(*row) for row in zip(ranked, values, strict=True)])
    return np.asarray(shared @ _chances(scores.shape[1]).T)


def measure_best_of_n(
    scores: Floats, judged: Floats, lengths: Floats, *, resamples: int, seed: int
) -> BestOfN:
    """Compute the curve of one judge, with intervals over prompts; arrays are (prompts, N)."""
    curves = best_of_n(scores, judged)
    return BestOfN(
        prompts=len(scores),
        judged=tuple(bootstrap_interval(curve, resamples, seed) for curve in curves.T),
        ceiling=tuple(best_of_n(judged, judged).mean(axis=0).tolist()),
        lengths=tuple(best_of_n(scores, lengths).mean(axis=0).tolist()),
        kl=tuple(best_of_n_kl(n) for n in range(1, curves.shape[1] + 1)),
        gain=bootstrap_interval(curves[:, -1] - curves[:, 0], resamples, seed),
    )


def best_of_n_kl(n: int) -> float:
    """Give the KL divergence of the best-of-n policy from the sampled one, log n - (n - 1) / n.

    Nats per completion; an upper bound, nearly reached where the same completion, or an equal
    score, is seldom sampled twice.

    Source:
        Stiennon et al., Learning to Summarize from Human Feedback (2020), for the formula; Beirami
        et al., Theoretical Guarantees on the Best-of-n Alignment Policy (2024), for the bound.
    """
    return math.log(n) - (n - 1) / n


def _chances(samples: int) -> Floats:
    """Chance that rank i is the best of n, (n, rank): C(i-1, n-1) / C(N, n)."""
    return np.array(
        [
            [math.comb(rank, n - 1) / math.comb(samples, n) for rank in range(samples)]
            for n in range(1, samples + 1)
        ]
    )


def _share_ties(ranked: Floats, values: Floats) -> Floats:
    """Give samples of equal score the mean of their values; both sorted by score, (N,)."""
    _, tied, counts = np.unique(ranked, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(tied, weights=values) / counts)[tied])
