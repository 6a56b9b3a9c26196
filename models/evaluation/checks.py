"""The checks of a decision: whether a model is better than its baseline, and fit to be used.

One list for the verdict on a policy (against its SFT model) and for a promotion (against the
champion). A model is accepted only if every check passes: enough prompts, a sure gain under a
judge, a sure one at equal length and ending too, no other judge that finds it worse, no
over-optimisation, finite numbers, a policy near its reference, between half and double the
baseline's length, completions that end by themselves, that still differ, and a training without
alarms but those of length and ending. A relative of the reward model does not decide alone where
independent judges were asked: one of them must surely see the gain.

Answers that became shorter or longer say nothing by themselves: what is left of the gain at equal
length does. So a changed length is a caution, for people to weigh, long before it is a reason to
reject.

A rejection is a result, not an error: nothing here raises, and what cannot be measured fails.
What a check found is numbers; `models/evaluation/wording.py` puts them into sentences.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: of models that
are no better, one in forty has its whole 95% interval above zero. Gao, Schulman and Hilton, Scaling
Laws for Reward Model Overoptimization (2023), section 1: the score that is maximised rises while
the gold score falls.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from models.evaluation.config import Bounds
from models.evaluation.grades import grade_of, is_independent
from models.statistics.diversity import MatchedDistinct, ratio
from models.statistics.intervals import Interval

MIN_PROMPTS = 30
"""With 2 to 8 prompts the bootstrap's interval lies above zero in 8 to 22% of models that are no
better (nominal 2.5%); below this number nothing is decided."""

OTHER = "other_judge/"
"""Begins the names of the checks by judges that do not decide."""

DRIFTS = ("length", "eos_rate")
"""Alarms that length or ending changed."""

USUAL_LENGTH = (0.8, 1.25)
"""Ratios of mean lengths that need no caution."""

# A ratio of two means may miss the bound it equals by rounding: 0.72 / 0.9 < 0.8 in floats.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One measure of the baseline and of the model."""

    baseline: float
    model: float

    @property
    def ratio(self) -> float:
        """Model over baseline; NaN over zero."""
        return ratio(self.model, self.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodDiversity:
    """Diversity among completions that a judge calls good."""

    pair_difference: float
    matched: MatchedDistinct


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a decision looks at; none of the numbers needs to be finite.

    Attributes:
        judge: Name of the judge whose gain decides; by it, its grade (`grades`).
        gain: The judge's mean gain of the model over the baseline.
        controlled: The same at equal length and ending.
        prompts: Held-out prompts behind it.
        finite: Means that must be finite, by name.
        length: Mean completion length, tokens.
        eos_rate: Share of completions that end by themselves.
        distinct_2: Of all completions.
        good: Diversity among good completions; None where no judge tells good ones.
        score_gain: The gain by the reward model that training maximised; None if not measured.
        kl_to_reference: The model's mean KL to the model that it was trained from, nats per
            completion (k1); None if not measured.
        alarms: Iterations of the model's training with each alarm that was raised, by name.
        others: What the other judges that training did not maximise say: each one's gain at equal
            length and ending.
    """

    judge: str
    gain: Interval
    controlled: Interval
    prompts: int
    finite: Mapping[str, float]
    length: Sides
    eos_rate: Sides
    distinct_2: Sides
    good: GoodDiversity | None = None
    score_gain: Interval | None = None
    kl_to_reference: float | None = None
    alarms: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def overoptimised(self) -> bool | None:
        """Whether the score surely rose and the judged gain surely did not; None if unknown."""
        if grade_of(self.judge) == "own" or self.score_gain is None:
            return None
        return self.score_gain.low > 0 and self.gain.high <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule and what came out.

    Attributes:
        low: The smallest value wanted; None for no such bound.
        high: The largest value wanted; None for no such bound.
        numbers: What else a sentence about it needs.
        caution: Whether it passed, but people should look at it first.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    passed: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    caution: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision.

    Attributes:
        judge: Name of the judge whose gain decided.
        independent: Whether it has nothing in common with the reward model (`grades`); in older
            records whether it was another one.
        overoptimised: Whether the maximised score rose without a gain; None if unknown.
        prompts: Held-out prompts behind it.
        checks: All of them, passed and failed.
    """

    judge: str
    independent: bool
    overoptimised: bool | None
    prompts: int
    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def decide(evidence: Evidence, bounds: Bounds) -> Verdict:
    """Hold a model to every check."""
    return Verdict(
        judge=evidence.judge,
        independent=is_independent(evidence.judge),
        overoptimised=evidence.overoptimised,
        prompts=evidence.prompts,
        checks=tuple(_checks(evidence, bounds)),
    )


def _checks(evidence: Evidence, bounds: Bounds) -> Iterator[Check]:
    gain = evidence.gain
    yield _within("prompts", float(evidence.prompts), low=MIN_PROMPTS)
    yield _surely_above_zero("judged_gain", gain)
    yield _surely_above_zero("controlled_gain", evidence.controlled)
    yield from _other_judges(evidence.others)
    yield from _independent_judges(evidence)
    if evidence.overoptimised is not None and evidence.score_gain is not None:
        yield Check(
            name="overoptimisation",
            value=float(evidence.overoptimised),
            high=0.0,
            passed=not evidence.overoptimised,
            numbers=_ends(gain) | {f"score_{k}": v for k, v in _ends(evidence.score_gain).items()},
        )
    broken = {name: mean for name, mean in evidence.finite.items() if not math.isfinite(mean)}
    yield _within("finite_numbers", float(len(broken)), high=0.0, numbers=broken)
    if evidence.kl_to_reference is not None and bounds.max_kl_to_reference is not None:
        yield _within("kl_to_reference", evidence.kl_to_reference, high=bounds.max_kl_to_reference)
    yield _length(evidence.length, bounds)
    yield from _diversity(evidence, bounds)
    yield _eos(evidence.eos_rate, bounds.min_eos_ratio)
    yield _alarms(evidence.alarms)


def _surely_above_zero(name: str, gain: Interval) -> Check:
    ends = _ends(gain)
    passed = all(map(math.isfinite, ends.values())) and gain.low > 0
    return Check(name=name, value=gain.low, low=0.0, passed=passed, numbers=ends)


def _other_judges(others: Mapping[str, Interval]) -> Iterator[Check]:
    """Refuse what another judge surely finds worse, and be cautious where it sees no gain."""
    for judge, gain in others.items():
        yield Check(
            name=f"{OTHER}{judge}",
            value=gain.high,
            low=0.0,
            passed=not gain.high < 0,
            numbers=_ends(gain),
            caution=not gain.low > 0 and not gain.high < 0,
        )


def _independent_judges(evidence: Evidence) -> Iterator[Check]:
    """Want one of them to see the gain, where some were asked and none of them decides."""
    lows = [gain.low for judge, gain in evidence.others.items() if is_independent(judge)]
    if lows and not is_independent(evidence.judge):
        best = max(lows, key=lambda low: low if math.isfinite(low) else -math.inf)
        yield Check(name="independent_gain", value=best, low=0.0, passed=best > 0)


def _alarms(alarms: Mapping[str, int]) -> Check:
    """Refuse what went wrong in training; drift is a caution, the gain at equal length decides."""
    raised = {name: float(count) for name, count in alarms.items() if count}
    wrong = sum(count for name, count in raised.items() if name not in DRIFTS)
    check = _within("alarms", wrong, high=0.0, numbers=raised)
    return replace(check, caution=check.passed and bool(raised))


def _length(sides: Sides, bounds: Bounds) -> Check:
    low, high = bounds.min_length_ratio, bounds.max_length_ratio
    check = _of_sides("length_ratio", sides, low=low, high=high)
    usual = USUAL_LENGTH[0] <= check.value <= USUAL_LENGTH[1]
    return replace(check, caution=check.passed and not usual)


def _eos(rate: Sides, bound: float) -> Check:
    check = _of_sides("eos_ratio", rate, low=bound)
    if rate.baseline == 0 and math.isfinite(rate.model):
        # A baseline that is always cut at the limit leaves nothing that could collapse.
        return replace(check, passed=True)
    return check


def _diversity(evidence: Evidence, bounds: Bounds) -> Iterator[Check]:
    """Want different completions, measured on good ones where a judge tells which are good."""
    good = evidence.good
    if good is None:
        low = bounds.min_distinct_2_ratio
        yield _of_sides("distinct_2_ratio", evidence.distinct_2, low=low)
        return
    yield _within("good_pair_difference", good.pair_difference, low=bounds.min_good_pair_difference)
    enough = good.matched.completions >= bounds.min_matched_completions
    yield _within(
        "matched_distinct_2_ratio",
        good.matched.ratio if enough else math.nan,
        low=bounds.min_matched_distinct_2_ratio,
        numbers={
            "completions": float(good.matched.completions),
            "wanted": float(bounds.min_matched_completions),
        },
    )


def _of_sides(name: str, sides: Sides, *, low: float, high: float | None = None) -> Check:
    numbers = {"baseline": sides.baseline, "model": sides.model}
    return _within(name, sides.ratio, low=low, high=high, numbers=numbers)


def _within(
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    numbers: Mapping[str, float] | None = None,
) -> Check:
    passed = (
        math.isfinite(value)
        and (low is None or value >= low - _ROUNDING)
        and (high is None or value <= high + _ROUNDING)
    )
    return Check(name=name, value=value, low=low, high=high, passed=passed, numbers=numbers or {})


def _ends(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
