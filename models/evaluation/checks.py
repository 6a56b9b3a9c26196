"""The verdict: whether PPO's policy is better than the SFT model, with the reasons.

The last word of the pipeline. A policy is accepted only if every check passes: the judged gain is
sure, the reward model was not over-optimised, the numbers are finite, the policy stayed near the
reference, the length near SFT's, completions still end by themselves, and the policy still says
different things. A rejection is a result, not an error: nothing here raises, and what cannot be
measured is a failed check that says why.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.evaluation.config import EvaluationConfig
from models.evaluation.evidence import HELD_OUT_JUDGE, Evidence, GoodDiversity
from models.statistics.diversity import MatchedDistinct, ratio
from models.statistics.intervals import Interval

# A ratio of two means may miss the bound it equals by rounding: 0.72 / 0.9 < 0.8 in floats.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule: the number it looks at, the bound it wants, and what came out, in a sentence."""

    name: str
    value: float
    bound: str
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Accepted or rejected. Reasons: all sentences if accepted, else those of failed checks."""

    accepted: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


def decide(evidence: Evidence, config: EvaluationConfig) -> Verdict:
    """Judge PPO's policy by every rule.

    Args:
        evidence: The measured numbers; none needs to be finite.
        config: The bounds.

    Returns:
        The verdict with all checks, passed and failed.
    """
    checks = (
        _check_gain(evidence),
        *_check_overoptimisation(evidence),
        check_finite(evidence.finite),
        *_check_kl(evidence.kl_to_reference, config.max_kl_to_reference),
        _check_length(evidence, config),
        *_check_diversity(evidence, config),
        _check_eos(evidence, config),
    )
    accepted = all(check.passed for check in checks)
    reasons = tuple(check.sentence for check in checks if accepted or not check.passed)
    return Verdict(accepted=accepted, reasons=reasons, checks=checks)


def _check_gain(evidence: Evidence) -> Check:
    """Want the whole interval of the judged gain above zero."""
    gain, judge = evidence.gain, evidence.judge
    passed = math.isfinite(gain.mean) and math.isfinite(gain.high) and gain.low > 0
    if not math.isfinite(gain.mean):
        sentence = f"The gain by the {judge} is not a finite number ({gain.mean})."
    elif evidence.prompts < 2:
        sentence = (
            f"The gain by the {judge} ({gain.mean:+.3f}) has no interval: "
            f"it rests on {evidence.prompts} held-out prompt, and at least 2 are needed."
        )
    elif not (math.isfinite(gain.low) and math.isfinite(gain.high)):
        sentence = f"The gain by the {judge} ({gain.mean:+.3f}) has no finite interval."
    else:
        place = "lies above 0" if passed else "does not lie above 0"
        sentence = (
            f"The gain by the {judge} is {gain}: the 95% interval over "
            f"{evidence.prompts} held-out prompts {place}."
        )
        if passed and not evidence.independent:
            sentence += (
                f" PPO was trained on this same {judge}, so over-optimisation cannot be ruled out."
            )
    return Check(
        name="judged_gain", value=gain.low, bound="above 0", passed=passed, sentence=sentence
    )


def _check_overoptimisation(evidence: Evidence) -> tuple[Check, ...]:
    """Want no sure gain of PPO's own score that an independent judge surely does not see."""
    overoptimised, score = evidence.overoptimised, evidence.score_gain
    if overoptimised is None or score is None:
        return ()
    gain = evidence.gain
    if overoptimised:
        finding = "the reward model was over-optimised"
    elif gain.low > 0 or score.high <= 0:
        finding = "no sign of over-optimisation"
        if evidence.judge == HELD_OUT_JUDGE:
            finding += ", though a second reward model may share the first one's errors"
    else:
        finding = "over-optimisation is neither shown nor ruled out"
    sentence = (
        f"The score by PPO's own reward model {_moved(score)}, the {evidence.judge} says {gain}: "
        f"{finding}."
    )
    return (
        Check(
            name="overoptimisation",
            value=float(overoptimised),
            bound="0",
            passed=not overoptimised,
            sentence=sentence,
        ),
    )


def _moved(gain: Interval) -> str:
    """Say which way a gain surely went, if any."""
    if gain.low > 0:
        return f"rose by {gain}"
    return f"fell: {gain}" if gain.high < 0 else f"did not surely move: {gain}"


def _check_kl(value: float | None, bound: float | None) -> tuple[Check, ...]:
    """Want the policy near the reference: scores mean little where the models were not trained."""
    if value is None or bound is None:
        return ()
    passed = math.isfinite(value) and value <= bound + _ROUNDING
    text = f"Mean KL to the reference is {value:.2f} nats a completion"
    if not math.isfinite(value):
        ending = f" (wanted: at most {bound:g}, got no number)."
    else:
        ending = f", {'at most' if passed else 'more than'} the {bound:g} wanted."
    return (
        Check(
            name="kl_to_reference",
            value=value,
            bound=f"at most {bound:g}",
            passed=passed,
            sentence=text + ending,
        ),
    )


def check_finite(means: Mapping[str, float]) -> Check:
    """Want every mean of what was measured on completions to be a finite number."""
    broken = {name: mean for name, mean in means.items() if not math.isfinite(mean)}
    named = ", ".join(f"{name} is {mean}" for name, mean in broken.items())
    sentence = (
        f"Not every number is finite: {named}."
        if broken
        else "All scores and KL estimates are finite."
    )
    return Check(
        name="finite_numbers",
        value=float(len(broken)),
        bound="0 not finite",
        passed=not broken,
        sentence=sentence,
    )


def _check_length(evidence: Evidence, config: EvaluationConfig) -> Check:
    """Want the mean length near SFT's: a gain bought by brevity or by padding is none."""
    value = ratio(evidence.length_ppo, evidence.length_sft)
    low, high = config.min_length_ratio, config.max_length_ratio
    passed = low - _ROUNDING <= value <= high + _ROUNDING
    bound = f"{low:g} to {high:g}"
    lengths = f"{evidence.length_ppo:.1f} tokens against SFT's {evidence.length_sft:.1f}"
    if math.isfinite(value):
        sentence = (
            f"Mean length is {lengths}, a ratio of {value:.3f}, "
            f"{'within' if passed else 'outside'} {bound}."
        )
    else:
        sentence = f"Mean length is {lengths}: their ratio cannot be measured."
    return Check(name="length_ratio", value=value, bound=bound, passed=passed, sentence=sentence)


def _check_eos(evidence: Evidence, config: EvaluationConfig) -> Check:
    """Want completions to end by themselves about as often as SFT's."""
    sft, ppo = evidence.eos_rate_sft, evidence.eos_rate_ppo
    value = ratio(ppo, sft)
    rates = f"{ppo:.3f} of the completions end by themselves against SFT's {sft:.3f}"
    if sft == 0 and math.isfinite(ppo):
        # An SFT model that is always cut at the limit leaves nothing that could collapse.
        return Check(
            name="eos_ratio",
            value=value,
            bound=f"at least {config.min_eos_ratio:g}",
            passed=True,
            sentence=f"{rates}: there was no EOS rate that could have collapsed.",
        )
    return _at_least("eos_ratio", value, config.min_eos_ratio, f"{rates}, a ratio of {value:.3f}")


def _check_diversity(evidence: Evidence, config: EvaluationConfig) -> tuple[Check, ...]:
    """Want different completions, measured on good ones where a judge tells which are good."""
    good = evidence.good
    if good is None:
        value = ratio(evidence.distinct_2_ppo, evidence.distinct_2_sft)
        text = f"Distinct-2 is {value:.3f} of SFT's"
        return (_at_least("distinct_2_ratio", value, config.min_distinct_2_ratio, text),)
    return (_check_good_pairs(good, config), _check_matched(good.matched, config))


def _check_good_pairs(good: GoodDiversity, config: EvaluationConfig) -> Check:
    """Want two good samples of one prompt to differ often enough."""
    value = good.pair_difference
    text = (
        f"Two good samples of one prompt differ with probability {value:.3f}"
        if math.isfinite(value)
        else "No prompt has two good samples of PPO, so nothing tells whether they differ"
    )
    return _at_least("good_pair_difference", value, config.min_good_pair_difference, text)


def _check_matched(matched: MatchedDistinct, config: EvaluationConfig) -> Check:
    """Want good completions of the same prompts nearly as varied as SFT's."""
    count, wanted = matched.completions, config.min_matched_completions
    if count < wanted:
        return Check(
            name="matched_distinct_2_ratio",
            value=math.nan,
            bound=f"at least {config.min_matched_distinct_2_ratio:g}",
            passed=False,
            sentence=f"Only {count} good completions of SFT and PPO could be matched by prompt; "
            f"at least {wanted} are needed to compare their diversity.",
        )
    value = matched.ratio
    text = f"Distinct-2 over {count} matched good completions is {value:.3f} of SFT's"
    return _at_least("matched_distinct_2_ratio", value, config.min_matched_distinct_2_ratio, text)


def _at_least(name: str, value: float, bound: float, text: str) -> Check:
    """Make the check that a finite value reaches its bound; the text lacks only the ending."""
    passed = math.isfinite(value) and value >= bound - _ROUNDING
    if not math.isfinite(value):
        ending = f" (wanted: at least {bound:g}, got no number)."
    elif passed:
        ending = f", at least the {bound:g} wanted."
    else:
        ending = f", less than the {bound:g} wanted."
    return Check(
        name=name,
        value=value,
        bound=f"at least {bound:g}",
        passed=passed,
        sentence=text + ending,
    )
