"""Labels of people as preferences."""

from typing import Any

import pytest

from tasks.labelling.items import Item, Labels
from tasks.labelling.pairs import pairs_of

MESSAGES = [{"role": "user", "content": "Hello?"}]


def label(ratings: list[int | None], **other: Any) -> dict[str, Any]:
    texts = [f"text {rating}-{at}" for at, rating in enumerate(ratings)]
    return {"prompt": "P", "completions": texts, "ratings": ratings, **other}


def test_ranking_becomes_all_its_pairs_with_margins() -> None:
    rows, outcomes = pairs_of([label([7, 1, 4, 4])], ties=True)
    assert [(row["chosen"][5], row["rejected"][5], row["margin"]) for row in rows] == [
        ("7", "1", 1.0),  # 6 of 6 steps apart
        ("7", "4", 0.5),
        ("7", "4", 0.5),
        ("4", "1", 0.5),
        ("4", "1", 0.5),
        ("4", "4", 0.0),
    ]
    assert [row.get("tie", False) for row in rows] == [False] * 5 + [True]
    assert outcomes == {"decided": 5, "tied": 1}


def test_ties_are_dropped_and_counted_where_they_do_not_count() -> None:
    rows, outcomes = pairs_of([label([4, 4])], ties=False)
    assert rows == []
    assert outcomes == {"tied": 1}


def test_what_was_not_rated_is_in_no_pair() -> None:
    rows, outcomes = pairs_of([label([2, None, 3])], ties=True)
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("text 3-2", "text 2-0")]
    assert outcomes == {"decided": 1, "unrated": 2}


def test_two_raters_who_disagree_give_both_pairs() -> None:
    completions = ["a", "b"]
    labels = [label([1, 7], completions=completions), label([7, 1], completions=completions)]
    rows, _ = pairs_of(labels, ties=True)
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("b", "a"), ("a", "b")]


def test_completions_take_the_form_of_their_prompt() -> None:
    (row,), _ = pairs_of([label([1, 2], prompt=MESSAGES)], ties=True)
    assert row["chosen"] == [{"role": "assistant", "content": "text 2-1"}]


# --- items --------------------------------------------------------------------------------------


def test_item_has_one_order_whoever_asks() -> None:
    texts = [f"completion {number}" for number in range(9)]
    one, other = Item.of("P", texts), Item.of("P", [*texts[::-1], texts[0]])
    assert one is not None
    assert one == other
    assert sorted(one.completions) == texts
    assert list(one.completions) not in (texts, texts[::-1])  # 1 in 181,440 by chance


def test_order_tells_nothing_about_which_came_first() -> None:
    """Of 400 items each of two completions comes first in about half: 200 +- 10 each."""
    items = [Item.of(f"P{number}", ["a", "b"]) for number in range(400)]
    first = sum(item is not None and item.completions[0] == "a" for item in items)
    assert 150 < first < 250  # five standard deviations


def test_equal_completions_are_no_item() -> None:
    assert Item.of("P", ["same", "same"]) is None


@pytest.mark.parametrize(("field", "changes"), [("ratings", True), ("comments", False)])
def test_digest_of_labels_is_that_of_the_ratings(field: str, changes: bool) -> None:
    row = {"key": "k", "rater": "ann", "ratings": [1, 2], "comments": ["", ""]}
    edited = row | {field: [1, 3] if changes else ["why", ""]}
    assert (Labels(rows=(row,)).digest != Labels(rows=(edited,)).digest) is changes
