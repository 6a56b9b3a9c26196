"""Who is asked what."""

import itertools
from collections import Counter

import pytest

from models.errors import ParameterError
from models.reward.config import FeedbackConfig
from tasks.labelling.assignment import EVERYBODY, assign, want_raters
from tasks.labelling.items import Item
from tasks.settings import Settings

RATERS = ["ann", "bob", "cyd", "dan"]


def items(count: int) -> list[Item]:
    made = (Item.of(f"P{number}", ["a", "b"]) for number in range(count))
    return [item for item in made if item is not None]


def test_everybody_is_asked_everything_where_nothing_is_rated_twice() -> None:
    assert assign(items(3), RATERS, 0.0) == {EVERYBODY: items(3)}


@pytest.mark.parametrize("raters", [RATERS[:2], RATERS[:3], RATERS])
@pytest.mark.parametrize("twice", [0.1, 0.5, 1.0])
def test_items_are_dealt_evenly_and_a_share_of_them_twice(raters: list[str], twice: float) -> None:
    dealt = assign(items(120), raters, twice)
    asked = Counter(item.key for own in dealt.values() for item in own)
    assert set(asked) == {item.key for item in items(120)}
    assert Counter(asked.values())[2] == 120 * twice
    sizes = [len(own) for own in dealt.values()]
    assert max(sizes) - min(sizes) <= 1
    for one, other in itertools.combinations(raters, 2):  # each pair gets its share
        both = {item.key for item in dealt[one]} & {item.key for item in dealt[other]}
        pairs = len(raters) * (len(raters) - 1) / 2
        assert abs(len(both) - 120 * twice / pairs) < 1


def test_dealing_depends_on_items_and_raters_alone() -> None:
    dealt = assign(items(30), RATERS, 0.3)
    assert assign(items(30)[::-1], [*RATERS[::-1], "ann"], 0.3) == dealt


def test_two_raters_are_wanted_to_rate_twice() -> None:
    twice = FeedbackConfig(annotator="people", rated_twice=0.1)
    with pytest.raises(ParameterError, match=r"QUARTET_RATERS names 1 MLflow accounts, wanted"):
        want_raters(twice, Settings(raters="ann, ANN"))
    want_raters(twice, Settings(raters="ann,bob"))
    want_raters(FeedbackConfig(annotator="people"), Settings())
    want_raters(twice.model_copy(update={"annotator": "none"}), Settings())
