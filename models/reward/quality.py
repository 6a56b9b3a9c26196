"""How good a reward model is, before PPO relies on it: against labels, length and a second model.

Stands between reward modelling and PPO. A reward model that learned nothing but a length rule has a
decent accuracy and ruins PPO, so the accuracy is compared, pair by pair, with "the longer one wins"
and "the shorter one wins": with both, since a model made of noise leans to one of them by chance.
It may lean to the right tone by chance as well; such a model hardly distinguishes completions, so
the mean confidence has a bound too.

Several pairs may share a prompt and then resemble each other: the bootstrap resamples whole
prompts. Equal scores count as ranked wrong, equal lengths as half a point for either length rule.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from models.randomness import derive_seed
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
from models.reward.endings import TOKENS
from models.statistics.intervals import (
    Floats,
    Groups,
    Interval,
    clustered_interval,
    wilson_interval,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairScores:
    """Margins and lengths of held-out pairs.

    Attributes:
        margins: Score of chosen minus rejected, (pairs,).
        longer: Tokens of chosen minus rejected, (pairs,).
        prompts: Number of each pair's prompt, 0 to prompts - 1, (pairs,).
        judge_margins: Of the held-out reward model, (pairs,), where there is one.
    """

    margins: Floats
    longer: Floats
    prompts: Groups
    judge_margins: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A rule that looks at length only.

    Attributes:
        name: longer_wins or shorter_wins.
        accuracy: Its points, half a point where lengths are equal.
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
class Agreement:
    """Whether two reward models rank the same pairs alike, and whether they err together.

    Attributes:
        alike: Share of pairs that both rank alike, with its 95% interval.
        kappa: Cohen's kappa of being right, 0 if they err independently, 1 if on the same pairs;
            NaN where neither ever errs, or neither ever succeeds.
        judge_accuracy: Of the held-out reward model.
    """

    alike: Interval
    kappa: Interval
    judge_accuracy: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairQuality:
    """Quality of a reward model on held-out pairs.

    Attributes:
        accuracy: Share ranked right, with its 95% Wilson interval.
        calibrated_error: What noise alone would make of it.
        nll: Nats per pair; log 2 = 0.693 for a coin.
        brier: 0.25 for a coin.
        hangs_on_length: By how much a completion of TOKENS more scores higher, given which of a
            pair is the better one.
        agreement: With the held-out reward model, where there is one.
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
    hangs_on_length: Interval = field(default_factory=lambda: Interval(mean=math.nan))

    def metrics(self) -> dict[str, float]:
        """Name every number that is one, `reward_quality/...`."""
        named = {
            "pairs": float(self.pairs),
            **self.accuracy.metrics("accuracy"),
            "longer_wins_accuracy": self.baselines[0].accuracy,
            **{f"accuracy_chosen_{one.name}": one.accuracy.mean for one in self.by_length},
            "confidence": self.confidence,
            "ece": self.calibration_error,
            "ece_if_calibrated": self.calibrated_error,
            "nll": self.nll,
            "brier": self.brier,
        }
        for rule in self.baselines:
            named |= rule.gain.metrics(f"over_{rule.name}")
        named |= self.hangs_on_length.metrics(f"margin_per_{TOKENS}_tokens")
        if self.agreement is not None:
            named |= self.agreement.alike.metrics("judge_agreement")
            named |= self.agreement.kappa.metrics("judge_kappa")
            named["judge_accuracy"] = self.agreement.judge_accuracy.mean
        return {f"reward_quality/{n}": v for n, v in named.items() if math.isfinite(v)}


def measure_pairs(scores: PairScores, config: RewardQualityConfig, seed: int) -> PairQuality:
    """Measure a reward model on scored pairs."""
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
            for name, sign in (("longer_wins", 1), ("shorter_wins", -1))
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
        hangs_on_length=_hangs_on_length(scores, resamples, derive_seed(seed, "length")),
        agreement=None
        if second is None
        else agreement(margins, second, scores.prompts, resamples, derive_seed(seed, "agreement")),
    )


def agreement(
    first: Floats, second: Floats, prompts: Groups, resamples: int, seed: int
) -> Agreement:
    """Compare how two reward models, by their margins, (pairs,), rank the same pairs.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """A rule that a reward model fails.

    Attributes:
        name: Of the metric that it is about: over_longer_wins, over_shorter_wins or confidence.
        value: Of that metric; NaN ends where it has no interval.
        bound: What its lower end, or the value itself where it has no interval, should exceed.
    """

    name: str
    value: Interval
    bound: float


def weaknesses(quality: PairQuality, config: RewardQualityConfig) -> list[Weakness]:
    """List the rules that a reward model fails; none where it is strong enough for PPO."""
    found = [  # an interval that could not be measured proves nothing either
        Weakness(name=f"over_{rule.name}", value=rule.gain, bound=0.0)
        for rule in quality.baselines
        if not rule.gain.low > 0
    ]
    if not quality.confidence >= config.min_confidence:
        confidence = Interval(mean=quality.confidence)
        found.append(Weakness(name="confidence", value=confidence, bound=config.min_confidence))
    return found


def _baseline(
    name: str, sign: int, right: Floats, scores: PairScores, resamples: int, seed: int
) -> Baseline:
    points = (np.sign(sign * scores.longer) + 1) / 2
    table = np.stack([right - points, np.ones_like(right)], axis=1)  # (pairs, 2)
    gain = clustered_interval(table, lambda t: t[:, 0] / t[:, 1], scores.prompts, resamples, seed)
    return Baseline(name=name, accuracy=float(points.mean()), gain=gain)


def _hangs_on_length(scores: PairScores, resamples: int, seed: int) -> Interval:
    """Regress margins on differences of length; what the better one gains anyway is the rest."""
    ones, longer, margins = np.ones_like(scores.margins), scores.longer / TOKENS, scores.margins
    table = np.stack([ones, longer, margins, longer * longer, longer * margins], axis=1)

    def slope(sums: Floats) -> Floats:
        count, x, y, xx, xy = sums.T
        spread = count * xx - x * x
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.where(spread > 1e-9 * count * xx, (count * xy - x * y) / spread, np.nan)
        return np.asarray(found)

    return clustered_interval(table, slope, scores.prompts, resamples, seed)


def _kappa(cells: Floats) -> Floats:
    """Cohen's kappa of tables of both right, first only, second only, both wrong, (tables, 4)."""
    both, first, second, neither = cells.T / cells.sum(axis=1)
    seen = both + neither
    by_chance = (both + first) * (both + second) + (neither + first) * (neither + second)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(by_chance < 1, (seen - by_chance) / (1 - by_chance), np.nan))
