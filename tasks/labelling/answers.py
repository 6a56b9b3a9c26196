"""What people answered, as labels: one row for each item and rater, with time and queue.

A later answer of a rater to the same question replaces the earlier one. Only what was marked as
reviewed counts; what was declined does not.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tasks.labelling.items import LETTERS, Item, Labels
from tasks.labelling.pairs import BEST, WORST
from tasks.tracking.reviews import Answer, Question, Review, ReviewTrace

UNKNOWN = "unknown"
"""Rater of answers that nobody signed."""

NO_RATING = "cannot be judged"
OPTIONS = ("7 excellent", "6", "5", "4 fair", "3", "2", "1 useless", NO_RATING)


def questions(count: int) -> list[Question]:
    """One for each of so many completions."""
    return [
        Question(
            name=f"Quality of {letter}",
            options=OPTIONS,
            instruction=f"How good is completion {letter}? Equal ratings are ties.",
        )
        for letter in LETTERS[:count]
    ]


def labels_of(
    items: Iterable[Item],
    traces: Mapping[str, ReviewTrace],
    reviews: Mapping[str, Review],
    queue: str,
) -> Labels:
    """Read the answers to the items of a queue that were marked as reviewed.

    Args:
        items: What was asked.
        traces: By the items' keys.
        reviews: By the traces' ids.
        queue: Name of the queue, for the record.
    """
    rows = []
    for item in items:
        trace = traces.get(item.key)
        review = reviews.get(trace.trace_id) if trace else None
        if trace is not None and review is not None and review.status == "complete":
            rows += [
                _label(item, rater, given) | {"queue": queue, "trace": trace.trace_id}
                for rater, given in _by_rater(item, trace).items()
            ]
    return Labels(rows=tuple(sorted(rows, key=lambda row: (row["key"], row["rater"]))))


def is_answered(item: Item, trace: ReviewTrace) -> str:
    """Who answered every question about an item; empty where nobody did."""
    asked = len(item.completions)
    whole = [rater for rater, given in _by_rater(item, trace).items() if len(given) == asked]
    return next(iter(sorted(whole)), "")


def _by_rater(item: Item, trace: ReviewTrace) -> dict[str, dict[str, Answer]]:
    """The last answer of each rater to each question."""
    names = {one.name for one in questions(len(item.completions))}
    raters: dict[str, dict[str, Answer]] = {}
    for answer in sorted(trace.answers, key=lambda one: one.time_ms):
        known = answer.value == NO_RATING or _rating(answer.value) is not None
        if answer.question in names and known:
            raters.setdefault(answer.rater or UNKNOWN, {})[answer.question] = answer
    return raters


def _label(item: Item, rater: str, given: Mapping[str, Answer]) -> dict[str, Any]:
    names = [one.name for one in questions(len(item.completions))]
    last = max(answer.time_ms for answer in given.values())
    return item.to_row() | {
        "ratings": [_rating(given[name].value) if name in given else None for name in names],
        "rater": rater,
        "time": datetime.fromtimestamp(last / 1000, UTC).isoformat(timespec="seconds"),
        "comments": [given[name].comment if name in given else "" for name in names],
    }


def _rating(value: Any) -> int | None:
    """The number that an answer begins with; None for anything else."""
    first = str(value).split(" ", 1)[0]
    return int(first) if first in {str(one) for one in range(WORST, BEST + 1)} else None
