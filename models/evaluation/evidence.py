"""The evidence for the verdict: measured numbers, who judged, and what follows from that alone.

Between the evaluation, which measures, and the verdict, which draws its lines.

Source: Gao, Schulman and Hilton, Scaling Laws for Reward Model Overoptimization (2023), section 1,
for over-optimisation: the score that is maximised rises while the gold score falls.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.statistics.diversity import MatchedDistinct
from models.statistics.intervals import Interval

GOLD_JUDGE = "gold judge"
HELD_OUT_JUDGE = "held-out reward model"
OWN_JUDGE = "reward model"
"""The one that PPO was trained on; every other judge is independent of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodDiversity:
    """Diversity among completions that a gold judge calls good."""

    pair_difference: float
    matched: MatchedDistinct


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the verdict is built on.

    Attributes:
        judge: Who judged the gain, as it stands in a sentence: `GOLD_JUDGE`, `HELD_OUT_JUDGE` or
            `OWN_JUDGE`.
        gain: The judge's mean gain of PPO over SFT.
        prompts: Held-out prompts behind it.
        finite: Means that must be finite, by name.
        length_sft: Mean completion length, tokens.
        length_ppo: Mean completion length, tokens.
        eos_rate_sft: Share of completions that end by themselves.
        eos_rate_ppo: Share of completions that end by themselves.
        distinct_2_sft: Distinct-2 of all completions.
        distinct_2_ppo: Distinct-2 of all completions.
        good: Diversity among good completions; None without a gold judge.
        score_gain: The gain by the reward model that PPO was trained on; None if not measured.
        kl_to_reference: Mean nats a completion from the reference; None if not measured.
    """

    judge: str
    gain: Interval
    prompts: int
    finite: Mapping[str, float]
    length_sft: float
    length_ppo: float
    eos_rate_sft: float
    eos_rate_ppo: float
    distinct_2_sft: float
    distinct_2_ppo: float
    good: GoodDiversity | None
    score_gain: Interval | None = None
    kl_to_reference: float | None = None

    @property
    def independent(self) -> bool:
        """Whether the judge is one that PPO was not trained on."""
        return self.judge != OWN_JUDGE

    @property
    def overoptimised(self) -> bool | None:
        """Whether the score surely rose and the judged gain surely did not; None if unknown."""
        if not self.independent or self.score_gain is None:
            return None
        return self.score_gain.low > 0 and self.gain.high <= 0
