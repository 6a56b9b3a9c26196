"""The comparison of SFT and PPO as a record: flat metrics for tracking, Markdown for people."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from models.evaluation.checks import Verdict
from models.statistics.intervals import Interval

_FEW_PROMPTS = 512

_LABELS = {
    "score": "score (reward model)",
    "judge_score": "score (held-out reward model)",
    "gold": "gold score (0 to 1)",
    "correct": "correct (share)",
    "polite": "polite (share)",
    "good": "fully good (share)",
    "refusal": "refused what must be refused (share)",
    "kl_to_reference": "KL to reference (nats a completion)",
    "length": "length (tokens)",
    "eos_rate": "ends by itself (share)",
    "unique_share": "unique completions (share)",
    "distinct_2": "distinct-2",
    "good_pair_difference": "two good samples of a prompt differ (probability)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """SFT against PPO, measured.

    Attributes:
        prompts: Held-out prompts.
        samples_per_prompt: Samples of each model for each of them.
        judge: "gold judge", "held-out reward model" or "reward model": whose gain the verdict
            looks at.
        independent: Whether PPO was not trained on that judge.
        overoptimised: Whether the score surely rose and the independent judge's gain surely did
            not; None without an independent judge.
        sft: SFT's metrics, as `summarise` names them.
        ppo: PPO's metrics.
        gains: PPO minus SFT of everything measured on single samples, with 95% intervals.
        ratios: PPO over SFT, and how often the judge prefers PPO, by name.
        verdict: Accepted or rejected, with reasons.
    """

    prompts: int
    samples_per_prompt: int
    judge: str
    independent: bool
    overoptimised: bool | None
    sft: dict[str, float]
    ppo: dict[str, float]
    gains: dict[str, Interval]
    ratios: dict[str, float]
    verdict: Verdict

    def metrics(self) -> dict[str, float]:
        """Flatten it into ``final/*``; what could not be measured is left out."""
        flat = {
            "accepted": float(self.verdict.accepted),
            "prompts": float(self.prompts),
            "samples_per_prompt": float(self.samples_per_prompt),
            "independent_judge": float(self.independent),
            "kl_to_reference": self.ppo["kl_to_reference"],
            **self.ratios,
        }
        if self.overoptimised is not None:
            flat["overoptimisation"] = float(self.overoptimised)
        for model, means in (("sft", self.sft), ("ppo", self.ppo)):
            flat |= {f"{name}_{model}": mean for name, mean in means.items()}
        for name, gain in self.gains.items():
            flat[f"{name}_gain"] = gain.mean
            flat[f"{name}_gain_low"] = gain.low
            flat[f"{name}_gain_high"] = gain.high
        return {f"final/{name}": value for name, value in flat.items() if math.isfinite(value)}

    def to_markdown(self) -> str:
        """Write the verdict with its checks, the table, and how to read it."""
        return "\n".join([*self._verdict_lines(), "", *self._table_lines(), "", self._legend()])

    def _verdict_lines(self) -> Iterator[str]:
        yield f"**Verdict: {'accepted' if self.verdict.accepted else 'rejected'}**"
        yield ""
        for check in self.verdict.checks:
            yield f"- {'passed' if check.passed else '**failed**'}: {check.sentence}"

    def _table_lines(self) -> Iterator[str]:
        yield "| metric | SFT | PPO | gain [95% interval] |"
        yield "|---|---:|---:|---:|"
        for name, label in _LABELS.items():
            if name in self.ppo:
                digits = 1 if name == "length" else 3
                sft, ppo = _cell(self.sft[name], digits), _cell(self.ppo[name], digits)
                yield f"| {label} | {sft} | {ppo} | {self._gain_cell(name)} |"

    def _gain_cell(self, name: str) -> str:
        cell = str(self.gains[name]) if name in self.gains else "–"
        factor = self.ratios.get(f"{name}_ratio", math.nan)
        return f"{cell} (× {factor:.2f})" if math.isfinite(factor) else cell

    def _legend(self) -> str:
        few = f" (fewer than {_FEW_PROMPTS})" if self.prompts < _FEW_PROMPTS else ""
        return (
            f"Measured on {self.prompts} held-out prompts{few}, {self.samples_per_prompt} samples "
            "of each model a prompt. In brackets: 95% intervals of the gain, by a paired bootstrap "
            "that resamples prompts. Rows without brackets pool all samples and have no interval; "
            f"× is PPO over SFT. The {self.judge} prefers PPO's sample to SFT's in "
            f"{_cell(self.ratios['win_rate'], 3)} of the pairs of one prompt, ties counted half."
        )


def _cell(value: float, digits: int) -> str:
    """Write a number of the table, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
