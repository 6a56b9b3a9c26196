"""What people answered, as labels: one row for each item and rater, with time and queue.

A later answer of a rater to the same question replaces the earlier one. Only what was marked as
reviewed counts; what was declined does not. Where raters have their own queues, it is a
rater's own that says so; of a rater without a queue any of the item's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.labelling.items import LETTERS, Item, Labels
from tasks.labelling.pairs import BEST, WORST
from tasks.tracking.reviews import Answer, Question, Review, ReviewTrace

UNKNOWN = "unknown"
"""Rater of answers that nobody signed."""

NO_RATING = "cannot be judged"
OPTIONS = ("7 excellent", "6", "5", "4 fair", "3", "2", "1 useless", NO_RATING)
VERDICTS = {
    "A is much better": (7, 1),
    "A is better": (6, 2),
    "A is slightly better": (5, 3),
    "both are as good": (4, 4),
    "B is slightly better": (3, 5),
    "B is better": (2, 6),
    "B is much better": (1, 7),
}
"""Llama 2's answers about two completions as ratings of both, which give its margins."""
COMPARISON = Question(
    name="Better of A and B",
    options=(*VERDICTS, NO_RATING),
    instruction="Which completion is better, and how much?",
)
RATINGS = tuple(
    Question(
        name=f"Quality of {letter}",
        options=OPTIONS,
        instruction=f"How good is completion {letter}? Equal ratings are ties.",
    )
    for letter in LETTERS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an item stands in one queue.

    Attributes:
        queue: Its name.
        rater: Whose it is; empty where it is everybody's.
    """

    queue: str
    rater: str
    review: Review


def labels_of(
    items: Iterable[Item],
    traces: Mapping[str, ReviewTrace],
    places: Mapping[str, Sequence[Place]],
) -> Labels:
    """Read the answers to items that were marked as reviewed.

    Args:
        items: What was asked.
        traces: By the items' keys.
        places: By the items' keys.
    """
    rows = []
    for item in items:
        trace, asked = traces.get(item.key), places.get(item.key, ())
        for rater, given in (_by_rater(item, trace) if trace else {}).items():
            own = [one for one in asked if one.rater == rater]
            done = [one for one in own or asked if one.review.status == "complete"]
            done.sort(key=lambda one: name_of(one.review.by) != rater)
            if trace and done:
                rows.append(
                    _label(item, rater, given)
                    | {"queue": done[0].queue, "trace": trace.trace_id}
                    | {"asked": sorted(one.rater for one in asked if one.rater)}
                )
    return Labels(rows=tuple(sorted(rows, key=lambda row: (row["key"], row["rater"]))))


def who_answered(item: Item, trace: ReviewTrace) -> list[str]:
    """Those who answered every question about an item, in the order of their names."""
    known = _by_rater(item, trace).items()
    return sorted(rater for rater, given in known if _answers_all(item, given))


def _answers_all(item: Item, given: Mapping[str, Answer]) -> bool:
    return COMPARISON.name in given or len(given) == len(item.completions)


def _by_rater(item: Item, trace: ReviewTrace) -> dict[str, dict[str, Answer]]:
    """The last answer of each rater to each question, of comparison and ratings the later."""
    names = {one.name for one in RATINGS[: len(item.completions)]}
    pair = len(item.completions) == 2
    raters: dict[str, dict[str, Answer]] = {}
    for answer in sorted(trace.answers, key=lambda one: one.time_ms):
        given = raters.get(name_of(answer.rater), {})
        if pair and answer.question == COMPARISON.name and answer.value in COMPARISON.options:
            given = {answer.question: answer}
        elif answer.question in names and (
            answer.value == NO_RATING or _rating(answer.value) is not None
        ):
            given = {**given, answer.question: answer}
            given.pop(COMPARISON.name, None)
        if given:
            raters[name_of(answer.rater)] = given
    return raters


def name_of(rater: str) -> str:
    """A rater's name as MLflow compares it: whatever its case."""
    return rater.strip().lower() or UNKNOWN


def _label(item: Item, rater: str, given: Mapping[str, Answer]) -> dict[str, Any]:
    last = max(answer.time_ms for answer in given.values())
    if COMPARISON.name in given:
        answer = given[COMPARISON.name]
        ratings: list[int | None] = list(VERDICTS.get(str(answer.value), (None, None)))
        comments = [answer.comment] * 2
    else:
        answers = [given.get(one.name) for one in RATINGS[: len(item.completions)]]
        ratings = [_rating(one.value) if one else None for one in answers]
        comments = [one.comment if one else "" for one in answers]
    return item.to_row() | {
        "ratings": ratings,
        "rater": rater,
        "time": datetime.fromtimestamp(last / 1000, UTC).isoformat(timespec="seconds"),
        "comments": comments,
    }


def _rating(value: Any) -> int | None:
    """The number that an answer begins with; None for anything else."""
    first = str(value).split(" ", 1)[0]
    return int(first) if first in {str(one) for one in range(WORST, BEST + 1)} else None
