"""How good a reward model is, before PPO leans on it: against the labels, length, and a second one.

Stands between reward modelling and PPO. A reward model that learned nothing but a length rule has a
decent accuracy and ruins PPO, so the accuracy is compared, pair by pair, with "the longer one wins"
and "the shorter one wins": with both, since a model made of noise leans to one of them by chance.
It may lean to the right tone by chance as well; what gives it away then is that it hardly tells
completions apart, so the mean confidence must clear a bound.

Several pairs may share a prompt and then resemble each other: the bootstrap draws whole prompts.
Equal scores count as ranked wrong, equal lengths as half a point for either length rule.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.randomness import derive_seed
from models.reward.agreement import Agreement, agreement
from models.reward.calibration import (
    MarginBin,
    brier_score,
    calibrated_error,
    calibration_error,
    confidences,
    margin_bins,
    margin_nll,
)
from models.reward.config import RewardQualityConfig
from models.statistics.clustered import Groups, clustered_interval
from models.statistics.intervals import Floats, Interval, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairScores:
    """What was read off held-out pairs.

    Attributes:
        margins: Score of chosen minus rejected, (pairs,).
        longer: Tokens of chosen minus rejected, (pairs,).
        prompts: Number of each pair's prompt, 0 to prompts - 1, (pairs,).
        judge_margins: Of the second reward model, (pairs,), where there is one.
    """

    margins: Floats
    longer: Floats
    prompts: Groups
    judge_margins: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A rule that looks at length only.

    Attributes:
        name: "the longer one wins" or "the shorter one wins".
        accuracy: Its points, half a one where lengths are equal.
        gain: Accuracy of the reward model minus that, paired, with its 95% interval.
    """

    name: str
    accuracy: float
    gain: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthGroup:
    """Pairs by which side is longer: name is that of the chosen side."""

    name: str
    pairs: int
    accuracy: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairQuality:
    """All that held-out pairs say of a reward model.

    Attributes:
        pairs: How many were scored.
        prompts: How many different prompts they have.
        accuracy: Share ranked right, with its 95% Wilson interval.
        baselines: The two length rules.
        by_length: Accuracy by which side is longer.
        bins: Accuracy and confidence by |margin|.
        confidence: Mean of sigmoid(|margin|).
        calibration_error: Expected calibration error over the bins.
        calibrated_error: What noise alone would make of it.
        nll: Nats a pair; log 2 = 0.693 for a coin.
        brier: 0.25 for a coin.
        agreement: With the second reward model, where there is one.
    """

    pairs: int
    prompts: int
    accuracy: Interval
    baselines: tuple[Baseline, ...]
    by_length: tuple[LengthGroup, ...]
    bins: tuple[MarginBin, ...]
    confidence: float
    calibration_error: float
    calibrated_error: float
    nll: float
    brier: float
    agreement: Agreement | None

    def metrics(self) -> dict[str, float]:
        """Name every number that is one, `reward_quality/...`."""
        named = {
            "pairs": float(self.pairs),
            **_ends("accuracy", self.accuracy),
            "longer_wins_accuracy": self.baselines[0].accuracy,
            **_ends("over_longer_wins", self.baselines[0].gain),
            **_ends("over_shorter_wins", self.baselines[1].gain),
            **{f"accuracy_chosen_{one.name}": one.accuracy.mean for one in self.by_length},
            "confidence": self.confidence,
            "ece": self.calibration_error,
            "ece_if_calibrated": self.calibrated_error,
            "nll": self.nll,
            "brier": self.brier,
        }
        if self.agreement is not None:
            named |= _ends("judge_agreement", self.agreement.alike)
            named |= _ends("judge_kappa", self.agreement.kappa)
            named["judge_accuracy"] = self.agreement.judge_accuracy.mean
        return {f"reward_quality/{n}": v for n, v in named.items() if math.isfinite(v)}


def measure_pairs(scores: PairScores, config: RewardQualityConfig, seed: int) -> PairQuality:
    """Measure a reward model on scored pairs.

    Args:
        scores: At least one pair.
        config: Bins and resamples.
        seed: Root of the bootstrap's seeds.
    """
    margins, resamples = scores.margins, config.bootstrap_resamples
    right = (margins > 0).astype(float)
    bins = margin_bins(margins, config.bins)
    second = scores.judge_margins
    return PairQuality(
        pairs=len(margins),
        prompts=len(np.unique(scores.prompts)),
        accuracy=wilson_interval(int(right.sum()), len(right)),
        baselines=tuple(
            _baseline(name, sign, right, scores, resamples, derive_seed(seed, "baseline"))
            for name, sign in (("the longer one wins", 1), ("the shorter one wins", -1))
        ),
        by_length=tuple(
            LengthGroup(
                name=name,
                pairs=int(rows.sum()),
                accuracy=wilson_interval(int(right[rows].sum()), int(rows.sum())),
            )
            for name, rows in (
                ("longer", scores.longer > 0),
                ("equal", scores.longer == 0),
                ("shorter", scores.longer < 0),
            )
        ),
        bins=tuple(bins),
        confidence=float(confidences(margins).mean()),
        calibration_error=calibration_error(bins),
        calibrated_error=calibrated_error(margins, config.bins, derive_seed(seed, "calibrated")),
        nll=margin_nll(margins),
        brier=brier_score(margins),
        agreement=None
        if second is None
        else agreement(margins, second, scores.prompts, resamples, derive_seed(seed, "agreement")),
    )


def weaknesses(quality: PairQuality, config: RewardQualityConfig) -> list[str]:
    """Say why a reward model is too weak for PPO, in sentences; none where it is strong enough.

    Args:
        quality: Measured on held-out pairs.
        config: The bound of the confidence.
    """
    found = []
    for rule in quality.baselines:
        if not rule.gain.low > 0:  # an interval that could not be measured says nothing either
            found.append(
                f"It ranks {quality.accuracy.mean:.3f} [{quality.accuracy.low:.3f}, "
                f"{quality.accuracy.high:.3f}] of {quality.pairs} held-out pairs right, the rule "
                f'"{rule.name}" {rule.accuracy:.3f}: the difference is {rule.gain}, and its 95% '
                "interval should lie above 0."
            )
    if not quality.confidence >= config.min_confidence:
        found.append(
            f"Its mean confidence in its own choice is {quality.confidence:.3f}, wanted at least "
            f"{config.min_confidence:g}: it hardly tells completions apart, as a model does whose "
            "labels were drawn by lot."
        )
    return found


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _baseline(
    name: str, sign: int, right: Floats, scores: PairScores, resamples: int, seed: int
) -> Baseline:
    points = (np.sign(sign * scores.longer) + 1) / 2
    table = np.stack([right - points, np.ones_like(right)], axis=1)  # (pairs, 2)
    gain = clustered_interval(table, lambda t: t[:, 0] / t[:, 1], scores.prompts, resamples, seed)
    return Baseline(name=name, accuracy=float(points.mean()), gain=gain)
