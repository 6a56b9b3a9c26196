"""Simulated raters: each rates a pair of completions rightly, or with some probability not."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.labelling.items import Item, Labels

RIGHT, WRONG = [6, 2], [2, 6]


def rated(errors: Mapping[str, float], count: int, seed: int) -> Labels:
    """Labels of so many items, of which "good" completions are the better ones."""
    return rate([(f"Is it {at}?", f"good {at}", f"bad {at}") for at in range(count)], errors, seed)


def rate(pairs: Sequence[tuple[str, str, str]], errors: Mapping[str, float], seed: int) -> Labels:
    """Labels of pairs, each by two raters in turn.

    Args:
        pairs: A prompt, its better completion, and its worse one.
        errors: Probability of a wrong label by rater.
    """
    random = np.random.default_rng(seed)
    names = list(itertools.combinations(errors, 2))
    rows: list[dict[str, Any]] = []
    for number, (prompt, better, worse) in enumerate(pairs):
        item = Item.of(prompt, [better, worse])
        assert item is not None
        for rater in names[number % len(names)]:
            right = random.random() >= errors[rater]
            ratings = RIGHT if right == (item.completions[0] == better) else WRONG
            rows.append(item.to_row() | {"ratings": ratings, "rater": rater, "comments": ["", ""]})
    return Labels(rows=tuple(rows))


def share_right(labels: Labels) -> float:
    """Of labels of `rated` that call the good completion better."""
    good = [
        (row["ratings"] == RIGHT) == row["completions"][0].startswith("good") for row in labels.rows
    ]
    return sum(good) / len(good)
