"""The report on a reward model, as Markdown: the verdict, and the numbers behind it."""

from collections.abc import Sequence

from models.reward.best_of_n import BestOfN
from models.reward.quality import PairQuality
from models.statistics.intervals import Interval


def quality_report(
    quality: PairQuality, curves: Sequence[BestOfN], weaknesses: Sequence[str]
) -> str:
    """Write what was measured of a reward model.

    Args:
        quality: On held-out pairs.
        curves: Best-of-n under each judge.
        weaknesses: Why it is too weak for PPO; none if it is strong enough.
    """
    if weaknesses:
        verdict = "**Too weak for PPO.** " + " ".join(weaknesses)
    else:
        verdict = "**Strong enough for PPO:** surely better than length alone, and not just noise."
    parts = [verdict, _pairs(quality), _calibration(quality), _agreement(quality)]
    parts += [_best_of_n(curve) for curve in curves] or [
        "Best-of-n was not measured: there is neither a gold judge nor a second reward model "
        "(reward.judge_share) to judge it."
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pairs(quality: PairQuality) -> str:
    lines = [
        "| held-out pairs | pairs | ranked right [95%] | reward model minus rule [95%] |",
        "|---|---:|---:|---:|",
        f"| all | {quality.pairs} | {_share(quality.accuracy)} | |",
    ]
    lines += [
        f"| chosen is {group.name if group.name != 'equal' else 'equally long'} | {group.pairs} | "
        f"{_share(group.accuracy) if group.pairs else 'none'} | |"
        for group in quality.by_length
    ]
    lines += [
        f"| rule: {rule.name} | {quality.pairs} | {rule.accuracy:.3f} | {rule.gain} |"
        for rule in quality.baselines
    ]
    return "\n".join(lines)


def _calibration(quality: PairQuality) -> str:
    return (
        f"Calibration: expected calibration error {quality.calibration_error:.3f} (noise alone "
        f"would make it {quality.calibrated_error:.3f}); it is {quality.confidence:.3f} sure on "
        f"average and right in {quality.accuracy.mean:.3f}; loss {quality.nll:.3f} nats a pair (a "
        f"coin: 0.693), Brier score {quality.brier:.3f} (a coin: 0.250)."
    )


def _agreement(quality: PairQuality) -> str:
    found = quality.agreement
    if found is None:
        return ""
    return (
        f"The second reward model ranks {_share(found.judge_accuracy)} of the pairs right; the two "
        f"rank {_share(found.alike)} alike. Cohen's kappa of being right: {found.kappa} (0: they "
        "err independently; 1: on the same pairs, so neither can find the other's faults)."
    )


def _best_of_n(curve: BestOfN) -> str:
    last = len(curve.judged)
    lines = [
        f"Best of n under the {curve.judge} ({curve.unit}): the reward model's choice among "
        f"{last} samples gains {curve.gain} over {curve.prompts} held-out prompts"
        + (f", {curve.realised:.0%} of what is possible." if curve.realised > 0 else "."),
        "",
        "| n | KL (nats) | reward model's choice [95%] | the judge's own choice | tokens |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {n} | {curve.kl[n - 1]:.2f} | {_share(curve.judged[n - 1])} | "
        f"{curve.ceiling[n - 1]:.3f} | {curve.lengths[n - 1]:.1f} |"
        for n in sorted({*(2**power for power in range(last.bit_length())), last})
    ]
    return "\n".join(lines)


def _share(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
