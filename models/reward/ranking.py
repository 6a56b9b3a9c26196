"""Pairs of completions as tokens, and how well a reward model ranks them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.errors import DataError
from models.language.examples import Pairs, encode_pairs
from models.language.folders import (
    load_frozen,
    load_reward_model,
    load_tokenizer,
    refuse_other_tokenizer,
)
from models.language.scoring import SCORED_TOKENS, score_sequences
from models.reward.quality import PairScores
from models.rows import has_messages, held_out_rows
from models.statistics.intervals import Interval, wilson_interval

MOST_LEVELS = 8
"""Of margins that the accuracy is measured by; more are no levels."""


def decided(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Leave ties out of held-out pairs: no ranking of them is right or wrong.

    Args:
        path: Of their file.

    Raises:
        DataError: All of them are ties.
    """
    kept = [row for row in rows if not row.get("tie")]
    if rows and not kept:
        raise DataError(
            f"{path} has {len(rows)} pairs, all of them ties; wanted at least one with a better "
            "completion to measure the accuracy on: give other held-out pairs, or raise "
            "data.heldout_fraction"
        )
    return kept


def pair_margins(model: Any, pairs: Pairs, batch_tokens: int = SCORED_TOKENS) -> torch.Tensor:
    """Score of the chosen minus that of the rejected completion, (pairs,) float32 on the CPU."""
    return score_sequences(model, pairs.chosen_sequences, batch_tokens) - score_sequences(
        model, pairs.rejected_sequences, batch_tokens
    )


def pair_accuracy(model: Any, pairs: Pairs, batch_tokens: int = SCORED_TOKENS) -> Interval:
    """Share of pairs whose chosen completion scores higher, with its 95% Wilson interval.

    Equal scores count as wrong.
    """
    right = pair_margins(model, pairs, batch_tokens) > 0
    return wilson_interval(int(right.sum()), len(pairs))


def accuracy_by_margin(
    model: Any, pairs: Pairs, batch_tokens: int = SCORED_TOKENS
) -> dict[str, float]:
    """Name the accuracy on pairs of each margin, `reward/accuracy_margin_...`.

    Nothing where all pairs have one margin, or where there are too many for levels of a grade.

    Source:
        Touvron et al., Llama 2 (2023), table 8: the more one completion is better, the more often
        the reward model sees it.
    """
    levels = sorted(set(pairs.margins))
    if not 2 <= len(levels) <= MOST_LEVELS:
        return {}
    right = (pair_margins(model, pairs, batch_tokens) > 0).numpy()
    margins = np.array(pairs.margins)
    return {
        f"reward/accuracy_margin_{level:g}": float(right[margins == level].mean())
        for level in levels
    }


def longer_wins_accuracy(pairs: Pairs) -> float:
    """Accuracy of the simplest baseline, the longer completion; half a point for equal lengths."""
    points = [
        (len(c) > len(r)) + 0.5 * (len(c) == len(r))
        for c, r in zip(pairs.chosen, pairs.rejected, strict=True)
    ]
    return sum(points) / len(points)


def score_pairs(*, reward: Path, judge: Path | None, heldout: Path, device: str) -> PairScores:
    """Score held-out pairs with a reward model, and with a held-out one of the same tokenizer.

    Raises:
        ModelError: A folder is not a complete reward model, or the tokenizers differ.
        DataError: There is no pair, only ties, or none that differs and fits the context.
    """
    rows = decided(held_out_rows(heldout), heldout)
    model = load_frozen(load_reward_model, reward, device)
    tokenizer = load_tokenizer(reward, wants_template=has_messages(rows))
    if judge is not None:
        refuse_other_tokenizer(
            judge, "judge", reward, "reward model", "train both from one SFT model"
        )
    pairs = encode_pairs(tokenizer, rows, model.config.max_position_embeddings)
    if not len(pairs):
        raise DataError(
            f"{heldout.name} has {len(rows)} pairs, {pairs.equal} with equal completions and "
            f"{pairs.too_long} too long for the reward model; wanted at least one to measure on: "
            "give preferences_test, or raise data.heldout_fraction"
        )
    longer = [len(c) - len(r) for c, r in zip(pairs.chosen, pairs.rejected, strict=True)]
    judge_margins = None
    if judge is not None:
        other = load_frozen(load_reward_model, judge, device)
        judge_margins = pair_margins(other, pairs).double().numpy()
    return PairScores(
        margins=pair_margins(model, pairs).double().numpy(),
        longer=np.array(longer, float),
        prompts=np.array(pairs.prompt_numbers, np.intp),
        judge_margins=judge_margins,
    )
