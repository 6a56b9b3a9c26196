"""A reward model's pages: how it ranks held-out pairs, and whether PPO can learn from it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from models.reward.best_of_n import BestOfN
from models.reward.endings import NEARLY_ALL, TOKENS, Endings
from models.reward.quality import PairQuality, Weakness
from models.rows import read_json
from models.statistics.intervals import Interval
from tasks.reports.style import gain_text, table
from tasks.run.spec import Page, Result

JUDGES = {"gold": ("gold judge", "0 to 1"), "judge": ("held-out reward model", "its score")}
"""What judges of best-of-n are called, and the unit of their numbers."""

RULES = {"longer_wins": "the longer one wins", "shorter_wins": "the shorter one wins"}


def quality_page(result: Result, plots: Path) -> Page:
    """Show how good a reward model is, in words and pictures."""
    from tasks.reports.reward_plots import plot_accuracy, plot_best_of_n, plot_calibration

    results = read_json(result.folder / "results.json")
    quality, curves = read_quality(results), read_curves(results)
    pictures = [plots / "accuracy.png", plots / "calibration.png"]
    plot_accuracy(quality, pictures[0])
    plot_calibration(quality, pictures[1])
    if curves:
        pictures.append(plots / "best_of_n.png")
        plot_best_of_n({JUDGES[name]: curve for name, curve in curves.items()}, pictures[2])
    return Page(
        title="Whether PPO can learn from the reward model",
        markdown=_quality_report(quality, curves, results),
        pictures=pictures,
    )


def read_quality(results: Mapping[str, Any]) -> PairQuality:
    """Read the part of results.json that was measured on held-out pairs."""
    pairs = results["pairs"]
    if not isinstance(pairs["agreement"], Mapping):  # there is no held-out reward model
        pairs = {**pairs, "agreement": None}
    return TypeAdapter(PairQuality).validate_python(pairs)


def read_curves(results: Mapping[str, Any]) -> dict[str, BestOfN]:
    """Read the best-of-n curves of results.json by judge."""
    return TypeAdapter(dict[str, BestOfN]).validate_python(results["best_of_n"])


def read_endings(results: Mapping[str, Any]) -> Endings | None:
    """Read how the SFT model's completions end; None from older results."""
    if "endings" not in results:
        return None
    return TypeAdapter(Endings).validate_python(results["endings"])


def explain_endings(results: Mapping[str, Any]) -> list[str]:
    """Say in a sentence where too few of the SFT model's completions end, and what helps."""
    found = read_endings(results)
    if found is None or not found.few:
        return []
    cut = 1 - found.ended.mean
    text = f"{cut:.0%} of the SFT model's completions are cut at {found.limit} tokens"
    if found.for_ending.low > 0:
        text += (
            f", and at equal length one that ends scores {found.for_ending} higher: PPO can gain "
            "by ending rather than by being better"
        )
    if math.isfinite(found.wanted):
        remedy = (
            f"{NEARLY_ALL:.0%} would end within about {found.wanted:.0f}: set "
            f"sampling.max_completion_tokens={found.wanted:.0f}, if the context has room"
        )
    else:
        remedy = (
            "hardly any ends shortly before that, so no limit can be named: let the demonstrations "
            "end with EOS, train SFT longer or raise sampling.max_completion_tokens"
        )
    return [f"{text}. {remedy[0].upper()}{remedy[1:]}."]


def explain_weaknesses(results: Mapping[str, Any]) -> list[str]:
    """Say in a sentence each why a reward model is too weak for PPO; none if it is strong enough.

    Args:
        results: Content of results.json, by `read_json`; older ones hold the sentences themselves.
    """
    found = results["weaknesses"]
    if all(isinstance(one, str) for one in found):
        return list(found)
    quality = read_quality(results)
    failed = TypeAdapter(list[Weakness]).validate_python(found)
    return [_explain(weakness, quality) for weakness in failed]


def _explain(weakness: Weakness, quality: PairQuality) -> str:
    if weakness.name == "confidence":
        return (
            f"Its mean confidence in its own choice is {weakness.value.mean:.3f}, wanted at least "
            f"{weakness.bound:g}: it hardly distinguishes completions, like a model trained on "
            "random labels."
        )
    rule = next(one for one in quality.baselines if f"over_{one.name}" == weakness.name)
    return (
        f"It ranks {_share(quality.accuracy)} of {quality.pairs} held-out pairs right, the rule "
        f'"{RULES[rule.name]}" {rule.accuracy:.3f}: the difference is {weakness.value}, and its '
        f"95% interval should lie above {weakness.bound:g}."
    )


def strength(weaknesses: Sequence[str]) -> str:
    """Say whether PPO can learn from a reward model, and if not, why."""
    if weaknesses:
        return "**Too weak for PPO.** " + " ".join(weaknesses)
    return "**Strong enough for PPO:** surely better than length alone, and not just noise."


def _quality_report(
    quality: PairQuality, curves: Mapping[str, BestOfN], results: Mapping[str, Any]
) -> str:
    parts = [
        strength(explain_weaknesses(results)),
        *(f"**Cut completions.** {finding}" for finding in explain_endings(results)),
        _pairs(quality), _hangs_on_length(quality), _calibration(quality), _agreement(quality),
        _endings(results),
    ]  # fmt: skip
    parts += [_best_of_n(*JUDGES[name], curve) for name, curve in curves.items()] or [
        "Best-of-n was not measured: there is neither a gold judge nor a held-out reward model "
        "(reward.judge_share) to judge it."
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pairs(quality: PairQuality) -> str:
    rows: list[tuple[object, ...]] = [("all", quality.pairs, _share(quality.accuracy), "")]
    for group in quality.by_length:
        name = "equally long" if group.name == "equal" else group.name
        share = _share(group.accuracy) if group.pairs else "none"
        rows.append((f"chosen is {name}", group.pairs, share, ""))
    for rule in quality.baselines:
        name = RULES.get(rule.name, rule.name)
        rows.append((f"rule: {name}", quality.pairs, f"{rule.accuracy:.3f}", rule.gain))
    header = ("held-out pairs", "pairs", "ranked right [95%]", "reward model minus rule [95%]")
    return table(header, rows)


def _hangs_on_length(quality: PairQuality) -> str:
    found = quality.hangs_on_length
    if not math.isfinite(found.mean):
        return ""
    return (
        f"Given which completion of a pair is the better one, {TOKENS} tokens more are worth "
        f"{found} of score."
    )


def _calibration(quality: PairQuality) -> str:
    return (
        f"Calibration: expected calibration error {quality.calibration_error:.3f} (noise alone "
        f"would give {quality.calibrated_error:.3f}); mean confidence {quality.confidence:.3f}, "
        f"accuracy {quality.accuracy.mean:.3f}; loss {quality.nll:.3f} nats per pair (a coin: "
        f"0.693), Brier score {quality.brier:.3f} (a coin: 0.250)."
    )


def _agreement(quality: PairQuality) -> str:
    found = quality.agreement
    if found is None:
        return ""
    return (
        f"The held-out reward model ranks {_share(found.judge_accuracy)} of the pairs right; the "
        f"two rank {_share(found.alike)} alike. Cohen's kappa of being right: {found.kappa} (0: "
        "they err independently; 1: on the same pairs, so neither can find the other's errors)."
    )


def _endings(results: Mapping[str, Any]) -> str:
    found = read_endings(results)
    if found is None:
        return ""
    rows = [
        (f"end by themselves within {found.limit} tokens (share)", _share(found.ended)),
        ("length (tokens)", f"{found.length.mean:.1f} [{found.length.low:.1f}, "
                            f"{found.length.high:.1f}]"),
        (f"score of {TOKENS} tokens more, if both end or both are cut",
         gain_text(found.per_tokens)),
        ("score of ending rather than being cut, if both are as long", gain_text(found.for_ending)),
    ]  # fmt: skip
    return table(("the SFT model's completions, compared within prompts", "[95%]"), rows)


def _best_of_n(judge: str, unit: str, curve: BestOfN) -> str:
    last = len(curve.judged)
    rows = [
        (n, f"{curve.kl[n - 1]:.2f}", _share(curve.judged[n - 1]), f"{curve.ceiling[n - 1]:.3f}",
         f"{curve.lengths[n - 1]:.1f}")
        for n in sorted({*(2**power for power in range(last.bit_length())), last})
    ]  # fmt: skip
    header = ("n", "KL (nats)", "reward model's choice [95%]", "the judge's own choice", "tokens")
    return (
        f"Best of n under the {judge} ({unit}): the reward model's choice among {last} samples "
        f"gains {curve.gain} over {curve.prompts} held-out prompts"
        + (f", {curve.realised:.0%} of the possible gain.\n\n" if curve.realised > 0 else ".\n\n")
        + table(header, rows, text_columns=0)
    )


def _share(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def ranking_page(result: Result, _plots: Path, *, group: str) -> Page:
    """Show the accuracy, `<group>/accuracy`, beside its baseline, by respect and by margin."""
    numbers = {
        name.removeprefix(f"{group}/"): value
        for name, value in result.metrics.items()
        if name.startswith(f"{group}/")
    }
    low, high = numbers["accuracy_low"], numbers["accuracy_high"]
    rows = [
        ("all, [95% interval]", f"{numbers['accuracy']:.3f} [{low:.3f}, {high:.3f}]"),
        ("baseline: the longer one wins", f"{numbers['longer_wins_accuracy']:.3f}"),
    ]
    for name, value in sorted(numbers.items()):
        respect = name.removeprefix("accuracy_")
        if respect.startswith("margin_"):
            rows.append((f"pairs with margin {respect.removeprefix('margin_')}", f"{value:.3f}"))
        elif respect not in (name, "low", "high"):
            rows.append((f"pairs that differ in one respect: {respect}", f"{value:.3f}"))
    if ties := numbers.get("heldout_ties"):
        rows.append((f"ties: {ties:.0f}", "left out"))
    text = table(("held-out pairs", "accuracy"), rows)
    return Page(title="How well it ranks held-out pairs", markdown=text)
