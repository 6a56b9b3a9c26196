"""What a decision says to people: one sentence a check. No number depends on it."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from models.evaluation.checks import OTHER, Check, Verdict
from models.evaluation.grades import grade_of, is_independent
from models.statistics.intervals import Interval

JUDGES = {
    "gold": "gold judge",
    "judge": "held-out reward model",
    "reward": "reward model",
    "vader": "VADER sentiment judge",
    "endpoint": "language-model judge",
    "people": "blind vote of people",
}
"""What a judge is called in a sentence; others go by their names."""

SHORT_JUDGES = {"judge": "held-out score", "reward": "reward score", "vader": "sentiment",
                "endpoint": "language-model judge", "people": "people's vote"}  # fmt: skip
"""What a judge's scores are called where there is little room; others go by their names."""

Names: TypeAlias = tuple[str, str]
"""What baseline and model are called in a sentence: ("SFT", "PPO"), ("the champion", …)."""


def judge_name(judge: str) -> str:
    """What a judge is called in a sentence."""
    return JUDGES.get(judge, f"judge {judge}")


def verdict_word(verdict: Verdict) -> str:
    """The decision in a word or two."""
    if any(check.name == "prompts" and not check.passed for check in verdict.checks):
        return "not enough prompts"
    return "accepted" if verdict.accepted else "rejected"


def headline(verdict: Verdict) -> str:
    """The decision in one line: "accepted, gold +0.124 [+0.099, +0.149], KL 1.6"."""
    checks = {check.name: check for check in verdict.checks}
    gain = checks["judged_gain"].numbers
    parts = [verdict_word(verdict)]
    if all(map(math.isfinite, gain.values())):
        judge = SHORT_JUDGES.get(verdict.judge, verdict.judge)
        parts.append(f"{judge} {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]")
    length = checks.get("length_ratio")
    equal = checks.get("controlled_gain")
    if equal is not None and math.isfinite(equal.value):
        ends = equal.numbers
        told = f"{ends['mean']:+.3f} [{ends['low']:+.3f}, {ends['high']:+.3f}]"
        parts.append(f"at equal length {told}")
    if length is not None and length.caution:
        parts.insert(1, length_change(length.value))
    kl = checks.get("kl_to_reference")
    if kl is not None and math.isfinite(kl.value):
        parts.append(f"KL {kl.value:.2g}")
    return ", ".join(parts)


def reasons(verdict: Verdict, names: Names) -> list[str]:
    """The sentences of all checks if accepted, cautions first, else of those that failed."""
    shown = [check for check in verdict.checks if verdict.accepted or not check.passed]
    shown.sort(key=lambda check: not check.caution)
    return [sentence(check, verdict, names) for check in shown]


def cautions(verdict: Verdict, names: Names) -> list[str]:
    """The sentences of the checks that passed and that people should look at first."""
    return [sentence(check, verdict, names) for check in verdict.checks if check.caution]


def sentence(check: Check, verdict: Verdict, names: Names) -> str:
    """Say what a check looked at and what came out."""
    baseline, model = names
    match check.name:
        case "prompts":
            place = "at least" if check.passed else "fewer than"
            return (
                f"Measured on {check.value:.0f} held-out prompts, {place} the {check.low:g} needed."
            )
        case "judged_gain":
            return _gain(check, verdict)
        case "controlled_gain":
            return _controlled(check, verdict)
        case name if name.startswith(OTHER):
            return _other(check, verdict)
        case "independent_gain":
            return _independent(check, verdict)
        case "overoptimisation":
            return _overoptimisation(check, verdict)
        case "finite_numbers":
            broken = ", ".join(f"{name} is {value}" for name, value in check.numbers.items())
            if broken:
                return f"Not every number is finite: {broken}."
            return "All scores and KL estimates are finite."
        case "kl_to_reference":
            return _ending(check, "Mean KL to the reference is {value:.2f} nats per completion")
        case "length_ratio":
            return _length(check, baseline)
        case "eos_ratio":
            return _eos(check, baseline)
        case "distinct_2_ratio":
            return _ending(check, f"Distinct-2 is {{value:.3f}} of {baseline}'s")
        case "good_pair_difference":
            text = "Two good samples of one prompt differ with probability {value:.3f}"
            if not math.isfinite(check.value):
                text = (
                    f"No prompt has two good samples of {model}, so nothing tells whether they "
                    "differ"
                )
            return _ending(check, text)
        case "matched_distinct_2_ratio":
            return _matched(check, baseline, model)
        case "alarms":
            raised = [f"{name} in {count:.0f} iterations" for name, count in check.numbers.items()]
            its = "Caution: its" if check.caution else "Its"
            return (
                f"{its} training raised {'alarms: ' + ', '.join(raised) if raised else 'no alarm'}."
            )
    return f"{check.name} is {check.value:.4g}: {'passed' if check.passed else 'failed'}."


def _length(check: Check, baseline: str) -> str:
    tokens = check.numbers
    lengths = f"{tokens['model']:.1f} tokens against {baseline}'s {tokens['baseline']:.1f}"
    if not math.isfinite(check.value):
        return f"Mean length is {lengths}: their ratio cannot be measured."
    place = "within" if check.passed else "outside"
    bounds = f"{check.low:g} to {check.high:g}"
    text = f"Mean length is {lengths}, a ratio of {check.value:.3f}, {place} {bounds}."
    if not check.caution:
        return text
    return f"Caution: {length_change(check.value)} than {baseline}'s. {text}"


def length_change(ratio: float) -> str:
    """How much longer or shorter completions are: "35% shorter"."""
    return f"{abs(ratio - 1):.0%} {'longer' if ratio > 1 else 'shorter'}"


def _controlled(check: Check, verdict: Verdict) -> str:
    """Say what is left of the gain where both models' completions are alike in length and end."""
    gain, raw = _interval(check.numbers), _named("judged_gain", verdict)
    if not math.isfinite(raw.numbers["mean"]):
        return "At equal length and ending there is no gain either: the raw one is no number."
    if not math.isfinite(gain.low):
        return (
            "At equal length and ending the gain cannot be told: no, or too few, prompts have "
            "completions of both models that are alike in these; raise "
            "sampling.max_completion_tokens if completions are cut, or ask more prompts."
        )
    if check.passed:
        found = "above 0 as well" if raw.passed else "above 0, which the raw one is not"
        return f"At equal length and ending the gain is {gain}: {found}."
    text = f"At equal length and ending the gain is {gain}: it does not lie above 0"
    if raw.passed:
        text += (
            ". Only the raw gain does: what the judge prefers may be how long completions are and "
            "that they end"
        )
    return f"{text}."


def _named(name: str, verdict: Verdict) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def _eos(check: Check, baseline: str) -> str:
    rates = (
        f"{check.numbers['model']:.3f} of the completions end by themselves against "
        f"{baseline}'s {check.numbers['baseline']:.3f}"
    )
    if check.passed and not math.isfinite(check.value):
        return f"{rates}: there was no EOS rate that could have collapsed."
    return _ending(check, f"{rates}, a ratio of {{value:.3f}}")


def _matched(check: Check, baseline: str, model: str) -> str:
    count, wanted = check.numbers["completions"], check.numbers["wanted"]
    if count < wanted:
        return (
            f"Only {count:.0f} good completions of {baseline} and {model} could be matched by "
            f"prompt; at least {wanted:.0f} are needed to compare their diversity."
        )
    text = f"Distinct-2 over {count:.0f} matched good completions is {{value:.3f}}"
    return _ending(check, f"{text} of {baseline}'s")


def _gain(check: Check, verdict: Verdict) -> str:
    gain = _interval(check.numbers)
    named = f"The gain by the {judge_name(verdict.judge)}"
    if not math.isfinite(gain.mean):
        return f"{named} is not a finite number ({gain.mean})."
    if not (math.isfinite(gain.low) and math.isfinite(gain.high)):
        return f"{named} ({gain.mean:+.3f}) has no finite interval."
    place = "lies above 0" if check.passed else "does not lie above 0"
    text = f"{named} is {gain}: the 95% interval over {verdict.prompts} held-out prompts {place}."
    if check.passed and grade_of(verdict.judge) == "own":
        text += (
            f" The model was trained against this same {judge_name(verdict.judge)}, so "
            "over-optimisation cannot be ruled out."
        )
    elif check.passed and grade_of(verdict.judge) == "relative":
        text += (
            " This judge is a relative of the reward model, trained from the same base on the same "
            "kind of pairs: it cannot see what both get wrong."
        )
    return text


def _other(check: Check, verdict: Verdict) -> str:
    """Say whether a judge that does not decide finds the same as the one that does."""
    name, gain = judge_name(check.name.removeprefix(OTHER)), _interval(check.numbers)
    if not math.isfinite(gain.low):
        return f"Caution: what the {name} says at equal length and ending cannot be told."
    decides = _interval(_named("controlled_gain", verdict).numbers)
    told = f"at equal length and ending the {name} says {gain}"
    found = _finding(gain)
    if not math.isfinite(decides.low):
        return f"Another judge: {told}, {found}."
    if found == _finding(decides):
        return f"The judges agree: {told}, {found} as well."
    if check.caution:
        return (
            f"Caution: the judges disagree. The {judge_name(verdict.judge)} decides, but {told}: "
            f"{found}."
        )
    return f"The judges disagree: {told}, {found}."


def _finding(gain: Interval) -> str:
    if gain.low > 0:
        return "above 0"
    return "surely worse" if gain.high < 0 else "no sure gain"


def _independent(check: Check, verdict: Verdict) -> str:
    """Say whether a judge that has nothing in common with the reward model sees the gain."""
    told = [
        f"the {judge_name(judge)} {_interval(one.numbers)}"
        for one in verdict.checks
        if one.name.startswith(OTHER) and is_independent(judge := one.name.removeprefix(OTHER))
    ]
    who = f"judge that has nothing in common with the reward model ({', '.join(told)})"
    if check.passed:
        return f"The gain is also seen by a {who}."
    return (
        f"No {who} surely sees a gain at equal length and ending, and what the reward model gets "
        f"wrong looks like one to the {judge_name(verdict.judge)}."
    )


def _overoptimisation(check: Check, verdict: Verdict) -> str:
    gain = _interval(check.numbers)
    score = _interval(check.numbers, "score_")
    if not check.passed:
        finding = "the reward model was over-optimised"
    elif gain.low > 0 or score.high <= 0:
        finding = "no sign of over-optimisation"
        if grade_of(verdict.judge) == "relative":
            finding += ", though a relative may share the reward model's errors"
    else:
        finding = "over-optimisation is neither shown nor ruled out"
    if score.low > 0:
        moved = f"rose by {score}"
    else:
        moved = f"fell: {score}" if score.high < 0 else f"did not surely move: {score}"
    return (
        f"The score by the reward model {moved}, the "
        f"{judge_name(verdict.judge)} says {gain}: {finding}."
    )


def _ending(check: Check, text: str) -> str:
    """Write the value into a text and end it with the bound."""
    at_most = check.low is None
    bound = check.high if at_most else check.low
    written, place = text.format(value=check.value), "at most" if at_most else "at least"
    if not math.isfinite(check.value):
        return f"{written} (wanted: {place} {bound:g}, got no number)."
    if check.passed:
        return f"{written}, {place} the {bound:g} wanted."
    return f"{written}, {'more' if at_most else 'less'} than the {bound:g} wanted."


def _interval(numbers: Mapping[str, float], prefix: str = "") -> Interval:
    return Interval(**{end: numbers[f"{prefix}{end}"] for end in ("mean", "low", "high")})


def bullet_list(verdict: Verdict, names: Names) -> Sequence[str]:
    """Every check as a line of a Markdown list, cautions first."""
    lines = []
    for check in sorted(verdict.checks, key=lambda check: not check.caution):
        word = "passed" if check.passed else "**failed**"
        lines.append(f"- {word}: {sentence(check, verdict, names)}")
    return lines
