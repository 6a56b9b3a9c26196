"""Which preferences teach the reward model and which its judge: decided by the prompt alone.

Runs before reward modelling where a second, held-out reward model is wanted. PPO finds and uses
the errors of the reward model that it maximises; a second one, taught by other prompts, makes other
errors, so a gain that both see is less likely to be an error of one. Less likely, not impossible:
both start from one SFT model and learn one annotator's taste, so some errors they share.

Source: Gao, Schulman and Hilton, Scaling Laws for Reward Model Overoptimization (2023), for why the
model that is optimised cannot also judge; here the judge is no larger model, only another sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from models.errors import DataError
from models.randomness import derive_seed
from models.rows import prompt_key

MIN_PAIRS = 16
"""Fewest pairs of a side: a floor against a split gone wrong, far below what teaches anything."""

SEEDS = 2**63
"""Seeds lie in [0, SEEDS)."""

Side: TypeAlias = Literal["reward", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceShare:
    """The pairs that one model learns from.

    A prompt with all its pairs goes to the judge if its hash with the seed, in [0, 1), lies below
    the share: adding or reordering rows moves no other row, and a larger share only adds to the
    judge.

    Attributes:
        side: Whose pairs these are.
        judge_share: Expected share of the prompts that the judge gets, in [0, 1); with 0 all pairs
            are the reward model's.
        seed: Root seed; the same for both sides, or they would overlap.
    """

    side: Side = "reward"
    judge_share: float = 0.0
    seed: int = 0

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a pair is on this side; each is on exactly one."""
        if not self.judge_share:
            return self.side == "reward"
        position = derive_seed(self.seed, f"judge_share/{prompt_key(row)}") / SEEDS
        return (position < self.judge_share) == (self.side == "judge")

    def check(self, taken: int, others: int) -> None:
        """Refuse a split that leaves a model too little.

        Args:
            taken: Pairs of this side; the others are of the other one.

        Raises:
            DataError: A side has fewer than `MIN_PAIRS`.
        """
        if not self.judge_share:
            return
        reward, judge = (taken, others) if self.side == "reward" else (others, taken)
        for name, pairs in (("reward model", reward), ("judge", judge)):
            if pairs < MIN_PAIRS:
                raise DataError(
                    f"reward.judge_share {self.judge_share:g} leaves the {name} {pairs} of the "
                    f"{taken + others} training pairs; a prompt with all its pairs goes to one "
                    f"side, and at least {MIN_PAIRS} pairs were wanted on each: give more "
                    "preferences of more prompts, choose a share nearer to 0.5, or 0 for no judge"
                )
