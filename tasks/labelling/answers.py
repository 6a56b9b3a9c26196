"""What people answered, as labels: one row for each item and rater, with time and queue.

A later answer of a rater to the same question replaces the earlier one. Only what was marked as
reviewed counts; what was declined does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.labelling.items import LETTERS, Item, Labels
from tasks.labelling.pairs import BEST, WORST
from tasks.tracking.reviews import Answer, Question, Review, ReviewTrace

UNKNOWN = "unknown"
"""Rater of answers that nobody signed."""

OPTIONS = tuple(
    f"{rating} {word}".strip()
    for rating, word in zip(
        range(BEST, WORST - 1, -1), ("excellent", "", "", "fair", "", "", "useless"), strict=True
    )
)


def questions(count: int) -> list[Question]:
    """One for each of so many completions."""
    return [
        Question(
            name=f"Quality of {letter}",
            options=OPTIONS,
            instruction=f"How good is completion {letter}? Equal ratings are ties. Leave it out "
            "if it cannot be judged; decline the item if none can.",
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
                item.to_row() | label | {"queue": queue, "trace": trace.trace_id}
                for label in _by_rater(item, trace.answers)
            ]
    return Labels(rows=tuple(sorted(rows, key=lambda row: (row["key"], row["rater"]))))


def is_answered(item: Item, trace: ReviewTrace) -> str:
    """Who rated every completion of an item; empty where nobody did."""
    whole = [one["rater"] for one in _by_rater(item, trace.answers) if None not in one["ratings"]]
    return next(iter(whole), "")


def _by_rater(item: Item, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    names = [one.name for one in questions(len(item.completions))]
    raters: dict[str, dict[str, Answer]] = {}
    for answer in sorted(answers, key=lambda one: one.time_ms):
        if answer.question in names and _rating(answer.value) is not None:
            raters.setdefault(answer.rater or UNKNOWN, {})[answer.question] = answer
    return [_label(rater, names, given) for rater, given in sorted(raters.items())]


def _label(rater: str, names: Sequence[str], given: Mapping[str, Answer]) -> dict[str, Any]:
    last = max(answer.time_ms for answer in given.values())
    return {
        "ratings": [_rating(given[name].value) if name in given else None for name in names],
        "rater": rater,
        "time": datetime.fromtimestamp(last / 1000, UTC).isoformat(timespec="seconds"),
        "comments": [given[name].comment if name in given else "" for name in names],
    }


def _rating(value: Any) -> int | None:
    """The number that an answer begins with; None for anything else."""
    first = str(value).split(" ", 1)[0]
    return int(first) if first in {str(one) for one in range(WORST, BEST + 1)} else None
