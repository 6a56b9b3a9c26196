"""Pairs of completions as tokens, and how well a reward model ranks them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.errors import DataError
from models.language.examples import Pairs, encode_pairs
from models.language.folders import load_reward_model, load_tokenizer, refuse_other_tokenizer
from models.language.scoring import score_sequences
from models.reward.quality import PairScores
from models.rows import has_messages, read_rows
from models.statistics.intervals import Interval, wilson_interval


def pair_margins(model: Any, pairs: Pairs) -> torch.Tensor:
    """Score of the chosen minus that of the rejected completion, (pairs,) float32 on the CPU."""
    return score_sequences(model, pairs.chosen_sequences) - score_sequences(
        model, pairs.rejected_sequences
    )


def pair_accuracy(model: Any, pairs: Pairs) -> Interval:
    """Share of pairs whose chosen completion scores higher, with its 95% Wilson interval.

    Equal scores count as wrong.
    """
    return wilson_interval(int((pair_margins(model, pairs) > 0).sum()), len(pairs))


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
        DataError: There is no pair, or none that differs and fits the context.
    """
    rows = read_rows(heldout)
    model = load_reward_model(reward).to(device)
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
    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(str(rows[row]["prompt"]), len(numbers)) for row in pairs.rows]
    longer = [len(c) - len(r) for c, r in zip(pairs.chosen, pairs.rejected, strict=True)]
    judge_margins = None
    if judge is not None:
        judge_margins = pair_margins(load_reward_model(judge).to(device), pairs).double().numpy()
    return PairScores(
        margins=pair_margins(model, pairs).double().numpy(),
        longer=np.array(longer, float),
        prompts=np.array(prompts, np.intp),
        judge_margins=judge_margins,
    )
