"""Which preferences teach the reward model and which its judge: decided by the prompt alone.

Runs before reward modelling where a second, held-out reward model is wanted. PPO finds and uses
the errors of the reward model that it maximises; a second one, taught by other prompts, makes other
errors, so a gain that both see is less likely to be an error of one. Less likely, not impossible:
both start from one SFT model and learn one annotator's taste, so some errors they share.

Source: Gao, Schulman and Hilton, Scaling Laws for Reward Model Overoptimization (2023), for why the
model that is optimised cannot also judge; here the judge is no larger model, only another sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import DataError
from models.randomness import derive_seed
from models.rows import prompt_key

MIN_PAIRS = 16
"""Fewest pairs of a side: a floor against a split gone wrong, far below what teaches anything."""

SEEDS = 2**63
"""Seeds lie in [0, SEEDS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceShares:
    """The two sides, each in the order of the rows; no prompt is in both."""

    reward: list[dict[str, Any]]
    judge: list[dict[str, Any]]


def split_preferences(
    rows: Sequence[dict[str, Any]], *, judge_share: float, seed: int
) -> PreferenceShares:
    """Give each prompt, with all its pairs, to the reward model or to the judge.

    A prompt goes to the judge if its hash with the seed, in [0, 1), lies below the share: adding or
    reordering rows moves no other row, and a larger share only adds to the judge.

    Args:
        judge_share: Expected share of the prompts that the judge gets, in (0, 1).
        seed: Root seed; the same for both sides, or they would overlap.

    Returns:
        Every row on exactly one side.

    Raises:
        DataError: A side has fewer than `MIN_PAIRS` pairs.
    """
    shares = PreferenceShares(reward=[], judge=[])
    for row in rows:
        side = shares.judge if _position(row, seed) < judge_share else shares.reward
        side.append(row)
    for name, side in (("reward model", shares.reward), ("judge", shares.judge)):
        if len(side) < MIN_PAIRS:
            raise DataError(
                f"reward.judge_share {judge_share:g} leaves the {name} {len(side)} of the "
                f"{len(rows)} training pairs, which have {len({prompt_key(row) for row in rows})} "
                f"different prompts; wanted at least {MIN_PAIRS}: give more preferences, choose a "
                "share nearer to 0.5, or 0 for no judge"
            )
    return shares


def _position(row: Mapping[str, Any], seed: int) -> float:
    """Place a row's prompt in [0, 1), evenly and always the same."""
    return derive_seed(seed, f"judge_share/{prompt_key(row)}") / SEEDS
