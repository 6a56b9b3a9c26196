"""Labels as preferences: every pair of completions that somebody rated, with margin.

K completions give up to K(K-1)/2 pairs, as in InstructGPT. The margin is the difference of the two
ratings as a share of the largest one possible, from 1/6 to 1. Each rater's labels stand for
themselves: where two disagree, both pairs are kept.

Source:
    Ouyang et al., Training language models to follow instructions with human feedback (2022),
    section 3.5; Touvron et al., Llama 2 (2023), section 3.2.2, on margins.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from models.rows import Content

BEST, WORST = 7, 1
"""Ratings of a completion's quality."""


def pairs_of(
    labels: Iterable[Mapping[str, Any]], *, ties: bool
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Make preference rows of labels.

    Args:
        labels: Each with `prompt`, `completions` and `ratings`, a number from 1 to 7 for each
            completion or None.
        ties: Whether pairs of equal rating are kept, to count as both orders.

    Returns:
        The rows, and the number of pairs by outcome: decided, tied, unrated.
    """
    rows: list[dict[str, Any]] = []
    outcomes: Counter[str] = Counter()
    for label in labels:
        rated = zip(label["completions"], label["ratings"], strict=True)
        for (first, one), (second, other) in itertools.combinations(rated, 2):
            if one is None or other is None:
                outcomes["unrated"] += 1
                continue
            outcomes["tied" if one == other else "decided"] += 1
            if one != other or ties:
                chosen, rejected = (first, second) if one >= other else (second, first)
                margin = abs(one - other) / (BEST - WORST)
                row = _row(label["prompt"], chosen, rejected, margin)
                rows.append(row | {"tie": True} if one == other else row)
    return rows, outcomes


def _row(prompt: Content, chosen: str, rejected: str, margin: float) -> dict[str, Any]:
    sides = {"chosen": as_content(prompt, chosen), "rejected": as_content(prompt, rejected)}
    return {"prompt": prompt, **sides, "margin": margin}


def as_content(prompt: Content, completion: str) -> Content:
    """A completion in the form of its prompt: a string, or messages."""
    return completion if isinstance(prompt, str) else [{"role": "assistant", "content": completion}]
