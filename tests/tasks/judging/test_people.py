"""Blind votes on a real MLflow server: asked once, in an order that tells nothing, read back."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues

from models.evaluation.samples import Pair
from models.statistics.controlled import Extent
from models.statistics.win_rates import win_rates
from tasks.judging.people import PeopleJudge, _preference, votes_page
from tasks.labelling.items import LABELS, Item, Labels
from tasks.labelling.waiting import AwaitingPeopleError, going_on
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.labelling.test_queue import running, tracker

__all__ = ["running", "tracker"]

BASE, TUNED = "base-model", "tuned-model"
"""Names that nobody who votes may see."""


class Voting:
    """An evaluation of two models by people, and the bot that votes."""

    def __init__(self, tracker: Tracker, name: str, out: Path, prompts: int = 4) -> None:
        run_id = tracker.start_run(name, parameters={"model": TUNED}, tags={})
        self.pipeline = PipelineRun(name=name, preset="toy", seed=0, run_id=run_id)
        self.out = out
        self.tracker = tracker
        self.pairs = [
            Pair(prompt=f"{name} {i}?", first=f"one {i}", second=f"two {i}") for i in range(prompts)
        ]

    def look(self) -> list[float]:
        return PeopleJudge(self.pipeline, self.out).compare(self.pairs).preference.tolist()

    def missing(self) -> AwaitingPeopleError:
        with pytest.raises(AwaitingPeopleError) as raised:
            self.look()
        return raised.value

    @property
    def queue_id(self) -> str:
        return self.tracker.tags(self.pipeline.run_id)["feedback.queue"]

    def trace(self, pair: int) -> str:
        """The trace that shows a pair."""
        key = item_of(self.pairs[pair]).key
        (found,) = self.tracker.client.search_traces(
            locations=[self.tracker.experiment_id], filter_string=f"tags.`quartet.item` = '{key}'"
        )
        return str(found.info.trace_id)

    def vote(self, pair: int, first: object, second: object, rater: str = "ann") -> None:
        """Rate the first and the second completion of a pair, wherever they are shown."""
        by_text = {self.pairs[pair].first: first, self.pairs[pair].second: second}
        human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=rater)
        for letter, text in zip("AB", item_of(self.pairs[pair]).completions, strict=True):
            mlflow.log_feedback(
                trace_id=self.trace(pair), name=f"Quality of {letter}", value=str(by_text[text]),
                source=human,
            )  # fmt: skip
        self.end(pair, rater=rater)

    def end(self, pair: int, status: str = "complete", rater: str = "ann") -> None:
        review_queues.set_review_queue_item_status(
            self.queue_id, item_id=self.trace(pair), status=status, completed_by=rater
        )


def item_of(pair: Pair) -> Item:
    item = Item.of(pair.prompt, (str(pair.first), str(pair.second)))
    assert item is not None
    return item


def test_pairs_are_asked_once_and_blind(tracker: Tracker, tmp_path: Path) -> None:
    voting = Voting(tracker, "blind", tmp_path, prompts=8)
    voting.pairs.append(Pair(prompt="blind same?", first="equal", second="equal"))
    first, again = voting.missing(), voting.missing()
    assert str(first.queue.progress) == "0 of 8 items reviewed"
    assert first.queue.queue_id == again.queue.queue_id == voting.queue_id
    assert not first.some
    assert "0 of 8 items reviewed, wanted 8; review them in http://" in str(first)
    items = list(review_queues.list_review_queue_items(voting.queue_id))
    assert {one.item_id for one in items} == {voting.trace(at) for at in range(8)}
    queue = review_queues.get_review_queue(voting.queue_id)
    seen = [str(queue.__dict__)]
    orders = set()
    for at in range(8):
        trace = tracker.client.get_trace(voting.trace(at))
        seen.append(str(trace.to_dict()))
        text = trace.info.response_preview
        orders.add(text.index("one") < text.index("two"))
    assert orders == {True, False}  # neither model is always shown first
    assert not [text for text in seen if BASE in text or TUNED in text]
    assert voting.pipeline.run_id not in str(seen)


def test_votes_come_back_in_the_order_of_the_pairs(tracker: Tracker, tmp_path: Path) -> None:
    voting = Voting(tracker, "order", tmp_path, prompts=6)
    voting.pairs.insert(2, Pair(prompt="order same?", first="equal", second="equal"))
    voting.missing()
    voting.vote(0, 7, 1)
    voting.vote(1, 2, 3)
    voting.vote(3, 4, 4)
    voting.vote(4, 6, 2, rater="ann")
    voting.vote(4, 5, 5, rater="bob")  # (1 + 0) / 2 -> 0.75
    voting.vote(5, "cannot be judged", 3)
    voting.end(6, "declined")
    judged = PeopleJudge(voting.pipeline, tmp_path).compare(voting.pairs)
    wanted = [1.0, 0.0, 0.5, 0.5, 0.75, math.nan, math.nan]
    np.testing.assert_equal(judged.preference, wanted)
    turned = [dataclasses.replace(p, first=p.second, second=p.first) for p in voting.pairs]
    given = PeopleJudge(voting.pipeline, tmp_path).compare(turned).preference
    np.testing.assert_equal(given, [1 - one for one in wanted])
    facts = dict(judged.facts)
    shown_first = sum(
        item_of(voting.pairs[at]).completions[0] == getattr(voting.pairs[at], better)
        for at, better in ((0, "first"), (1, "second"), (4, "first"))
    )
    assert facts.pop("prefers_first") == pytest.approx(shown_first / 3)
    assert facts.pop("prefers_first_low") < facts.pop("prefers_first_high")
    assert facts == {
        "pairs": 7, "equal_pairs": 1, "items": 6, "reviewed": 5, "declined": 1, "judged": 4,
        "votes": 5, "tied_votes": 2, "raters": 2,
    }  # fmt: skip
    kept = Labels.read(tmp_path / LABELS).rows
    assert {(row["rater"], row["prompt"]) for row in kept} >= {("bob", "order 3?")}


def test_edits_count_until_all_is_reviewed_and_a_deleted_queue_comes_back(
    tracker: Tracker, tmp_path: Path
) -> None:
    voting = Voting(tracker, "edited", tmp_path, prompts=2)
    voting.missing()
    voting.vote(0, 7, 1)
    review_queues.delete_review_queue(voting.queue_id)
    awaiting = voting.missing()
    assert str(awaiting.queue.progress) == "1 of 2 items reviewed"
    voting.vote(0, 1, 7)  # the later answer of a rater replaces the earlier one
    voting.vote(1, 7, 1)
    assert voting.look() == [0.0, 1.0]
    others = Voting(tracker, "edited", tmp_path, prompts=2)  # another run with the same samples
    assert others.look() == [0.0, 1.0]


def test_run_goes_on_with_what_there_is_if_a_person_says_so(
    tracker: Tracker, tmp_path: Path
) -> None:
    voting = Voting(tracker, "part", tmp_path, prompts=3)
    empty = voting.missing()
    token = going_on.set(frozenset([empty.queue.name]))
    try:
        assert not voting.missing().some  # there is nothing yet
        voting.vote(2, 1, 7)
        np.testing.assert_equal(voting.look(), [math.nan, math.nan, 0.0])
    finally:
        going_on.reset(token)
    assert voting.missing().some


def test_published_votes_name_the_page_of_their_queue(tracker: Tracker, tmp_path: Path) -> None:
    voting = Voting(tracker, "page", tmp_path, prompts=1)
    page = voting.missing().queue.page
    voting.vote(0, 7, 1)
    voting.look()
    evidence = StageRef(stage="promotion", digest="e" * 64)
    assert votes_page(evidence) == ""
    folder = Store(load_settings().store).folder(evidence.stage, evidence.digest)
    folder.mkdir(parents=True)
    (tmp_path / LABELS).rename(folder / LABELS)
    assert votes_page(evidence) == page
    review_queues.delete_review_queue(voting.queue_id)
    assert votes_page(evidence) == ""


def test_equal_completions_need_nobody(tmp_path: Path) -> None:
    same: Sequence[Pair] = [Pair(prompt="p", first="x", second="x")]
    nowhere = PipelineRun(name="toy", preset="toy", seed=0, run_id="")
    judged = PeopleJudge(nowhere, tmp_path).compare(same)
    assert judged.preference.tolist() == [0.5]
    assert judged.facts == {"pairs": 1, "equal_pairs": 1}


@pytest.mark.parametrize("prompts", [20, 50, 200])
def test_interval_holds_its_level_where_a_bot_votes_at_random(prompts: int) -> None:
    """1,000 votings of a model against itself, of one rater or two, 30% of the votes ties.

    A binomial of 0.95 falls below 0.929 once in a thousand, and one of 0.025 rises above 0.041.
    """
    generator = np.random.default_rng(prompts)
    pairs = [Pair(prompt=f"{i}?", first=f"one {i}", second=f"two {i}") for i in range(prompts)]
    items = [item_of(pair) for pair in pairs]
    same = Extent(lengths=np.ones((prompts, 1)), ended=np.ones((prompts, 1), bool))
    alike = {"a": same, "b": same}
    covered = better = 0
    for draw in range(1000):
        votes = generator.choice([1.0, 0.0, -1.0], (prompts, 2), p=[0.35, 0.3, 0.35])
        raters = generator.integers(1, 3, prompts)
        preference = np.array(
            [
                _preference(pair, item, given[:count].tolist())
                for pair, item, given, count in zip(pairs, items, votes, raters, strict=True)
            ]
        )
        rates = win_rates(["a", "b"], {("a", "b"): preference}, alike, resamples=200, seed=draw)
        rate = rates.of("a", "b")
        covered += rate.low <= 0.5 <= rate.high
        better += rate.low > 0.5
    assert 0.929 <= covered / 1000 <= 0.98
    assert better / 1000 <= 0.041
