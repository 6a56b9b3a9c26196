"""Simulated raters: each rates a pair of completions rightly, or with some probability not."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.labelling.items import Item, Labels

RIGHT, WRONG = [6, 2], [2, 6]


def rated(errors: Mapping[str, float], count: int, seed: int, *, twice: bool = True) -> Labels:
    """Labels of items that two raters in turn rated, or one; the longer completion is the better.

    Args:
        errors: Probability of a wrong label by rater.
    """
    random = np.random.default_rng(seed)
    names: list[tuple[str, ...]] = list(itertools.combinations(errors, 2 if twice else 1))
    rows: list[dict[str, Any]] = []
    for number in range(count):
        item = Item.of(f"Prompt {number}?", [f"good {number}", f"a bad {number}"])
        assert item is not None
        for rater in names[number % len(names)]:
            right = random.random() >= errors[rater]
            ratings = RIGHT if right == item.completions[0].startswith("good") else WRONG
            rows.append(item.to_row() | {"ratings": ratings, "rater": rater, "comments": ["", ""]})
    return Labels(rows=tuple(rows))


def share_right(labels: Labels) -> float:
    """Of labels that call the good completion better."""
    good = [
        (row["ratings"] == RIGHT) == row["completions"][0].startswith("good") for row in labels.rows
    ]
    return sum(good) / len(good)
