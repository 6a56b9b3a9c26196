"""Who is asked what: everybody everything, or each rater some items, and some items two raters.

Items are dealt in the order of their keys, which are hashes, so those that two raters get are a
random share, and whoever deals the same items to the same raters again deals them alike.
"""

import itertools
import math
from collections.abc import Sequence

from models.errors import ParameterError
from models.reward.config import FeedbackConfig
from tasks.labelling.items import Item
from tasks.settings import Settings

EVERYBODY = ""
"""Stands for the rater where all share one queue."""

MOST_SHARING = 10
"""Accounts that one queue is assigned to, MLflow's own limit."""


def assign(items: Sequence[Item], raters: Sequence[str], twice: float) -> dict[str, list[Item]]:
    """Deal items to raters, each of whom gets about as many as the others.

    Items for two raters go round through the pairs of raters, so that all pairs can be compared
    if there are enough of these items.

    Args:
        twice: Share of the items that two raters get; with 0 everybody gets everything.

    Returns:
        Items by rater, or those of `EVERYBODY`.

    Raises:
        ParameterError: Two raters are to be asked, and there are fewer; or too many for one queue.
    """
    names = sorted(set(raters))
    if not twice:
        if len(names) > MOST_SHARING:
            raise ParameterError(
                f"QUARTET_RATERS names {len(names)} MLflow accounts, but one review queue is "
                f"assigned to at most {MOST_SHARING}; name fewer, or, for feedback, give each a "
                "queue by feedback.rated_twice"
            )
        return {EVERYBODY: list(items)}
    if len(names) < 2:
        raise ParameterError(
            f"feedback.rated_twice is {twice:g} but QUARTET_RATERS names {len(names)} MLflow "
            "accounts, wanted at least 2; name them, separated by commas, or set "
            "feedback.rated_twice=0"
        )
    dealt: dict[str, list[Item]] = {name: [] for name in names}
    pairs = itertools.cycle(_pairs(names))
    for at, item in enumerate(sorted(items, key=lambda one: one.key)):
        if at < math.ceil(twice * len(items) - 1e-9):
            first, second = next(pairs)
            dealt[first].append(item)
            dealt[second].append(item)
        else:
            min(dealt.values(), key=len).append(item)
    return dealt


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs, in an order in which every name comes up about equally often."""
    count = len(names)
    return [
        (names[at], names[(at + step) % count])
        for step in range(1, count // 2 + 1)
        for at in range(count if 2 * step < count else step)
    ]


def want_raters(config: FeedbackConfig, settings: Settings) -> None:
    """Refuse to ask raters who are too few, or too many for one queue.

    Raises:
        ParameterError: As `assign`.
    """
    if config.annotator == "people":
        assign([], settings.rater_names, config.rated_twice)
