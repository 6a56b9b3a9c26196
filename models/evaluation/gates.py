"""The gates of a promotion: what a challenger must show before it takes the champion's place.

All of them must open. The gain counts only under a judge that training never saw, and only if its
whole 95% interval lies above zero: of challengers that are no better, that passes one in forty
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). The other gates
catch what a judge may not see: a policy far from its reference, one that answers shorter or
longer, that does not end, that repeats itself, or whose training raised an alarm.

A rejection is a result, not an error: nothing here raises, and what cannot be measured is a gate
that stays shut and says why.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.evaluation.checks import Check, Verdict, check_finite
from models.evaluation.config import PromotionConfig
from models.statistics.intervals import Interval

# A ratio of two means may miss the bound it equals by rounding: 0.72 / 0.9 < 0.8 in floats.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """How varied the challenger's completions are beside its opponent's.

    Attributes:
        ratio: Distinct-2 of the challenger over the opponent's.
        matched: Good completions of each model that were matched by prompt and compared; None
            where no judge tells good ones, and the ratio is over all completions.
    """

    ratio: float
    matched: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """All that the gates look at.

    Attributes:
        opponent: What the challenger was compared with, as it stands in a sentence: "champion"
            or "SFT model".
        judge: Who judged the gain, likewise: "gold judge" or "held-out reward model".
        gain: The judge's mean gain of the challenger over the opponent.
        prompts: Held-out prompts behind it.
        finite: Means that must be finite, by name.
        kl_to_reference: The challenger's mean KL to the model that it was trained from, nats a
            completion (k1 estimator).
        length_ratio: Mean completion length, challenger over opponent.
        eos_rate: Share of the challenger's completions that end by themselves.
        eos_rate_opponent: Of the opponent's.
        diversity: Of the two.
        alarms: Iterations of the challenger's training with each alarm that was raised, by name.
    """

    opponent: str
    judge: str
    gain: Interval
    prompts: int
    finite: Mapping[str, float]
    kl_to_reference: float
    length_ratio: float
    eos_rate: float
    eos_rate_opponent: float
    diversity: Diversity
    alarms: Mapping[str, int]


def pass_gates(evidence: GateEvidence, config: PromotionConfig) -> Verdict:
    """Hold a challenger to every gate.

    Args:
        evidence: The measured numbers; none needs to be finite.
        config: The bounds.

    Returns:
        The verdict with all checks, passed and failed; accepted only if every one passed.
    """
    checks = (
        _check_gain(evidence),
        check_finite(evidence.finite),
        _check_kl(evidence, config),
        _check_length(evidence, config),
        _check_eos(evidence, config),
        _check_diversity(evidence, config),
        _check_alarms(evidence.alarms),
    )
    accepted = all(check.passed for check in checks)
    reasons = tuple(check.sentence for check in checks if accepted or not check.passed)
    return Verdict(accepted=accepted, reasons=reasons, checks=checks)


def _check_gain(evidence: GateEvidence) -> Check:
    """Want the whole interval of the judged gain above zero."""
    gain = evidence.gain
    named = f"The gain over the {evidence.opponent} by the {evidence.judge}"
    known = all(map(math.isfinite, (gain.mean, gain.low, gain.high)))
    passed = known and gain.low > 0
    if known:
        place = "lies above 0" if passed else "does not lie above 0"
        sentence = (
            f"{named} is {gain}: the 95% interval over {evidence.prompts} held-out prompts {place}."
        )
    else:
        sentence = f"{named} has no interval: {gain} over {evidence.prompts} held-out prompts."
    return Check(
        name="judged_gain", value=gain.low, bound="above 0", passed=passed, sentence=sentence
    )


def _check_kl(evidence: GateEvidence, config: PromotionConfig) -> Check:
    """Want the challenger near the model that it was trained from."""
    text = "KL to the challenger's own reference, nats a completion,"
    bound = config.max_kl_to_reference
    return _within("kl_to_reference", evidence.kl_to_reference, -math.inf, bound, text)


def _check_length(evidence: GateEvidence, config: PromotionConfig) -> Check:
    """Want the mean length near the opponent's: a gain bought by brevity or padding is none."""
    text = f"Mean completion length over the {evidence.opponent}'s"
    low, high = config.min_length_ratio, config.max_length_ratio
    return _within("length_ratio", evidence.length_ratio, low, high, text)


def _check_eos(evidence: GateEvidence, config: PromotionConfig) -> Check:
    """Want completions to end by themselves about as often as the opponent's."""
    rate, other = evidence.eos_rate, evidence.eos_rate_opponent
    text = (
        f"{rate:.3f} of the completions end by themselves against {other:.3f} of the "
        f"{evidence.opponent}'s; the ratio"
    )
    if other == 0 and math.isfinite(rate):
        # An opponent that is always cut at the limit leaves nothing that could collapse.
        return Check(
            name="eos_ratio",
            value=math.nan,
            bound=f"at least {config.min_eos_ratio:g}",
            passed=True,
            sentence=f"The {evidence.opponent}'s completions never end by themselves, so there "
            "was no EOS rate that could have collapsed.",
        )
    value = rate / other if other else math.nan
    return _within("eos_ratio", value, config.min_eos_ratio, math.inf, text)


def _check_diversity(evidence: GateEvidence, config: PromotionConfig) -> Check:
    """Want completions nearly as varied; among good ones where a judge tells which are good."""
    matched, value = evidence.diversity.matched, evidence.diversity.ratio
    if matched is None:
        text = f"Distinct-2 over the {evidence.opponent}'s"
        return _within("diversity_ratio", value, config.min_distinct_2_ratio, math.inf, text)
    bound = config.min_matched_distinct_2_ratio
    if matched < config.min_matched_completions:
        return Check(
            name="diversity_ratio",
            value=math.nan,
            bound=f"at least {bound:g}",
            passed=False,
            sentence=f"Only {matched} good completions of both models could be matched by prompt; "
            f"at least {config.min_matched_completions} are needed to compare their diversity.",
        )
    text = f"Distinct-2 of {matched} matched good completions over the {evidence.opponent}'s"
    return _within("diversity_ratio", value, bound, math.inf, text)


def _check_alarms(alarms: Mapping[str, int]) -> Check:
    """Want a training that raised no alarm."""
    raised = {name: count for name, count in alarms.items() if count}
    named = ", ".join(f"{name} in {count} iterations" for name, count in raised.items())
    return Check(
        name="alarms",
        value=float(sum(raised.values())),
        bound="none",
        passed=not raised,
        sentence=f"Its training raised alarms: {named}."
        if raised
        else "Its training raised no alarm.",
    )


def _within(name: str, value: float, low: float, high: float, text: str) -> Check:
    """Make the check that a finite value lies between two bounds; the text lacks its ending."""
    if math.isinf(low):
        bound = f"at most {high:g}"
    else:
        bound = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
    passed = math.isfinite(value) and low - _ROUNDING <= value <= high + _ROUNDING
    got = f"is {value:.3f}" if math.isfinite(value) else "cannot be measured"
    ending = f"{got}, wanted {bound}."
    return Check(name=name, value=value, bound=bound, passed=passed, sentence=f"{text} {ending}")
