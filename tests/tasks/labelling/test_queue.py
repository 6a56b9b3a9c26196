"""A review queue on a real MLflow server: filled, answered, edited, killed, deleted."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType, Feedback
from mlflow.genai import review_queues
from mlflow.genai.label_schemas import get_label_schema

from models.errors import ParameterError
from tasks.labelling.answers import who_answered
from tasks.labelling.items import Item, Labels
from tasks.labelling.queue import (
    Queue,
    fill_queue,
    is_awaited_queue_done,
    keep_labels,
    kept_labels,
)
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.reviews import Reviews, Shown
from tests.tasks.tracking.mlflow_server import Server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[Server]:
    """One server for all tests here; each asks about prompts of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(mlflow_template, folder / "mlflow.db")
    with Server(folder) as server:
        server.start()
        yield server


@pytest.fixture
def tracker(home: Path, running: Server, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.setenv("QUARTET_TRACKING_URI", running.uri)
    return Tracker(load_settings())


class Round:
    """The items of one run, and its queue as often as it is looked at."""

    def __init__(self, tracker: Tracker, name: str, prompts: int = 3) -> None:
        self.tracker = tracker
        made = (
            Item.of(f"{name} {number}?", [f"{text} {number}" for text in ("a", "b", "c", "d")])
            for number in range(prompts)
        )
        self.items = [item for item in made if item is not None]
        run_id = tracker.start_run(name, parameters={}, tags={})
        self.found: Queue | None = None
        self.pipeline = PipelineRun(name=name, preset="toy", seed=0, run_id=run_id)
        self.samples = StageRef(stage="feedback-samples", digest=(name.encode().hex() * 64)[:64])

    def look(self, share: float = 1.0, twice: float = 0.0) -> Queue:
        """Fill the queue as far as it is not full."""
        self.found = fill_queue(self.items, self.samples, share, self.pipeline, twice=twice)
        return self.found

    def answer(
        self,
        item: int,
        ratings: str,
        rater: str = "ann",
        status: str = "complete",
        queue_of: str = "",
    ) -> list[Any]:
        """Answer as MLflow's page does: a number for each completion, - for none."""
        queue = self.found or self.look()
        queue_id = next(one.queue_id for one in queue.queues if one.rater == queue_of)
        trace_id = queue.traces[self.items[item].key].trace_id
        human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=rater)
        made = [
            mlflow.log_feedback(
                trace_id=trace_id, name=f"Quality of {letter}", value=f"{rating}", source=human
            )
            for letter, rating in zip("ABCD", ratings, strict=False)
            if rating != "-"
        ]
        if status:
            review_queues.set_review_queue_item_status(
                queue_id, item_id=trace_id, status=status, completed_by=rater or "ann"
            )
        return [trace_id, *made]


def ratings(labels: Labels) -> list[tuple[str, str, list[int | None]]]:
    return sorted((row["prompt"], row["rater"], row["ratings"]) for row in labels.rows)


def test_queue_shows_each_item_once_however_often_it_is_filled(tracker: Tracker) -> None:
    run = Round(tracker, "once")
    Reviews(tracker).show(
        {run.items[0].key: Shown(prompt="once 0?", text="A", preview="A")}
    )  # a fill that was killed
    first, second = run.look(), run.look()
    assert first.queue_id == second.queue_id
    assert first.name == f"once feedback {run.samples.digest[:12]}"
    assert str(second.progress) == "0 of 3 items reviewed"
    items = review_queues.list_review_queue_items(first.queue_id)
    assert {one.item_id for one in items} == {first.traces[item.key].trace_id for item in run.items}
    traces = tracker.client.search_traces(locations=[tracker.experiment_id])
    mine = [one for one in traces if one.info.tags["quartet.item"] in {i.key for i in run.items}]
    assert len(mine) == 3
    shown = {one.info.request_preview: one.info.response_preview for one in mine}
    a, b, c, d = run.items[1].completions
    assert shown["once 1?"] == f"### A\n\n{a}\n\n### B\n\n{b}\n\n### C\n\n{c}\n\n### D\n\n{d}"
    assert len(review_queues.get_review_queue(first.queue_id).schema_ids) == 4


def test_runs_that_fill_at_once_have_one_queue_and_each_item_once(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Round(tracker, "at once") for _ in range(2)]
    runs[1].pipeline = runs[1].pipeline.model_copy(update={"name": "at once too"})
    find = Reviews.queue

    def find_slowly(reviews: Reviews, mark: str) -> tuple[str, str] | None:
        found = find(reviews, mark)
        time.sleep(1.0)
        return found

    monkeypatch.setattr(Reviews, "queue", find_slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(Round.look, runs)
    assert one.queue_id == other.queue_id
    traces = tracker.client.search_traces(locations=[tracker.experiment_id], max_results=500)
    keys = [one.info.tags["quartet.item"] for one in traces]
    assert [keys.count(item.key) for item in runs[0].items] == [1, 1, 1]


def test_rater_who_is_named_later_is_assigned_too(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Round(tracker, "later")
    for named, assigned in (("Ann", ["ann"]), ("bob", ["ann", "bob"]), ("", ["ann", "bob"])):
        monkeypatch.setenv("QUARTET_RATERS", named)
        queue = review_queues.get_review_queue(run.look().queue_id)
        assert sorted(queue.users) == assigned


def test_more_raters_than_a_queue_takes_are_refused_in_words(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_RATERS", ",".join(f"rater{number}" for number in range(11)))
    with pytest.raises(ParameterError, match=r"QUARTET_RATERS names 11 .*at most 10"):
        Round(tracker, "many").look()
    queues = Round(tracker, "many each").look(twice=1.0).queues
    assert len(queues) == 11


def test_long_completions_are_shown_in_part_and_are_whole_in_the_trace(tracker: Tracker) -> None:
    run = Round(tracker, "long", prompts=1)
    texts = ["*word* " * 300 + "end", "short", "<b>" * 400 + "\n# x"]
    item = Item.of("long?", texts)
    assert item is not None
    run.items = [item]
    trace_id = run.look().traces[item.key].trace_id
    trace = tracker.client.get_trace(trace_id)
    preview = trace.info.response_preview
    assert len(preview) <= 1000
    for letter, text in zip("ABC", item.completions, strict=True):
        assert f"### {letter}\n\n" in preview
        assert ("short" in preview) if text == "short" else ("…" in preview)
    whole = trace.data.spans[0].outputs["choices"][0]["message"]["content"]
    assert whole.count("\\*word\\*") == 300
    assert "\n\\# x" in whole  # no heading
    assert "<b>" not in whole


def test_answers_become_labels_and_edits_other_ones(tracker: Tracker) -> None:
    run = Round(tracker, "edits")
    run.answer(0, "7144")
    run.answer(0, "1-77", rater="bob")
    run.answer(1, "", status="declined")
    trace_id, first, *_ = run.answer(2, "5555", status="")  # not marked as reviewed
    queue = run.look()
    assert str(queue.progress) == "1 of 3 items reviewed, 1 declined"
    assert ratings(queue.labels) == [
        ("edits 0?", "ann", [7, 1, 4, 4]),
        ("edits 0?", "bob", [1, None, 7, 7]),
    ]
    row = queue.labels.rows[0]
    assert row["queue"] == queue.name
    assert row["completions"] == list(run.items[0].completions)
    assert not queue.progress.reached(queue.needed)
    review_queues.set_review_queue_item_status(
        queue.queue_id, item_id=trace_id, status="complete", completed_by="ann"
    )
    done = run.look()
    assert done.progress.reached(done.needed)
    edited = Feedback(name=first.name, value="6", source=first.source)
    mlflow.update_assessment(trace_id, first.assessment_id, edited)
    changed = run.look().labels
    assert ratings(changed)[-1] == ("edits 2?", "ann", [6, 5, 5, 5])
    assert changed.digest != done.labels.digest
    mlflow.delete_assessment(trace_id, first.assessment_id)
    assert ratings(run.look().labels)[-1] == ("edits 2?", "ann", [None, 5, 5, 5])


def test_deleted_queue_is_made_again_with_what_was_answered(tracker: Tracker) -> None:
    run = Round(tracker, "deleted")
    run.answer(1, "1234", rater="cyd")
    before = run.look()
    review_queues.delete_review_queue(before.queue_id)
    assert is_awaited_queue_done(tracker, run.pipeline.run_id)  # the run has to look itself
    after = run.look()
    assert after.queue_id != before.queue_id
    assert after.labels.digest == before.labels.digest
    assert str(after.progress) == "1 of 3 items reviewed"


def test_what_was_labelled_is_not_asked_again_in_another_run(tracker: Tracker) -> None:
    run = Round(tracker, "again")
    run.answer(0, "4321")
    other = Round(tracker, "again")
    other.samples = replace_digest(other.samples)
    queue = other.look()
    assert queue.queue_id != run.look().queue_id
    assert str(queue.progress) == "1 of 3 items reviewed"
    assert ratings(queue.labels) == [("again 0?", "ann", [4, 3, 2, 1])]


# --- a queue for each rater ---------------------------------------------------------------------


@pytest.fixture
def raters(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_RATERS", "ann, Bob,cyd")


def own(run: Round, rater: str) -> list[int]:
    """The items that a rater is asked about."""
    queue = run.found or run.look()
    (asks,) = (one.asks for one in queue.queues if one.rater == rater)
    return [at for at, item in enumerate(run.items) if item.key in asks]


@pytest.mark.usefixtures("raters")
def test_each_rater_has_a_queue_and_some_items_are_in_two(tracker: Tracker) -> None:
    run = Round(tracker, "dealt", prompts=6)
    queue = run.look(twice=0.5)
    assert [one.rater for one in queue.queues] == ["ann", "bob", "cyd"]
    assert queue.name == f"dealt feedback {run.samples.digest[:12]}"
    for one in queue.queues:
        assert one.name == f"{queue.name} {one.rater}"
        made = review_queues.get_review_queue(one.queue_id)
        assert made.users == [one.rater]
        there = {item.item_id for item in review_queues.list_review_queue_items(one.queue_id)}
        assert there == set(one.asks.values())
    assert [len(own(run, name)) for name in ("ann", "bob", "cyd")] == [3, 3, 3]
    assert str(queue.progress) == "0 of 9 items reviewed"
    assert queue.needed == 9
    assert queue.describe().count("0 of 3 items reviewed. [Review them](http://") == 3
    assert "selectedQueueId" not in queue.page
    assert run.look(twice=0.5).queue_id == queue.queue_id


@pytest.mark.usefixtures("raters")
def test_run_waits_for_all_raters(tracker: Tracker) -> None:
    run = Round(tracker, "all", prompts=3)
    run.look(twice=1.0)
    for name in ("ann", "bob"):
        for item in own(run, name):
            run.answer(item, "1234", rater=name, queue_of=name)
    assert not is_awaited_queue_done(tracker, run.pipeline.run_id)
    queue = run.look(twice=1.0)
    assert not queue.progress.reached(queue.needed)
    first, second = own(run, "cyd")
    run.answer(first, "", rater="cyd", status="declined", queue_of="cyd")
    run.answer(second, "4321", rater="dan", queue_of="cyd")  # for cyd
    assert is_awaited_queue_done(tracker, run.pipeline.run_id)
    done = run.look(twice=1.0)
    assert done.progress.reached(done.needed)
    assert str(done.progress) == "5 of 6 items reviewed, 1 declined"
    rows = done.labels.rows
    assert Counter(row["rater"] for row in rows) == {"ann": 2, "bob": 2, "dan": 1}
    (stranger,) = (row for row in rows if row["rater"] == "dan")
    assert stranger["queue"].endswith("cyd")
    assert "cyd" in stranger["asked"]
    assert "dan" not in stranger["asked"]


@pytest.mark.usefixtures("raters")
def test_answers_count_once_their_own_rater_is_done(tracker: Tracker) -> None:
    run = Round(tracker, "own", prompts=3)
    run.look(twice=1.0)
    (item,) = set(own(run, "ann")) & set(own(run, "bob"))
    run.answer(item, "12--", rater="bob", status="", queue_of="bob")  # has only begun
    run.answer(item, "1234", rater="ann", queue_of="ann")
    run.answer(item, "3333", rater="", status="", queue_of="ann")  # unsigned, beside ann's
    assert [one[1] for one in ratings(run.look(twice=1.0).labels)] == ["ann", "unknown"]
    run.answer(item, "4321", rater="BOB", queue_of="bob")
    labels = run.look(twice=1.0).labels
    assert [one[1:] for one in ratings(labels)] == [
        ("ann", [1, 2, 3, 4]), ("bob", [4, 3, 2, 1]), ("unknown", [3, 3, 3, 3]),
    ]  # fmt: skip


@pytest.mark.usefixtures("raters")
def test_deleted_queue_of_one_rater_is_made_again(tracker: Tracker) -> None:
    run = Round(tracker, "gone", prompts=3)
    run.look(twice=1.0)
    item, other = own(run, "ann")
    run.answer(item, "1234", rater="ann", queue_of="ann")
    run.answer(other, "4321", rater="dan", queue_of="ann")
    before = run.look(twice=1.0)
    review_queues.delete_review_queue(before.queues[0].queue_id)
    assert is_awaited_queue_done(tracker, run.pipeline.run_id)  # the run has to look itself
    after = run.look(twice=1.0)
    assert after.queues[0].queue_id != before.queues[0].queue_id
    assert after.queues[1:] == before.queues[1:]
    assert after.labels.digest == before.labels.digest
    assert str(after.progress) == "2 of 6 items reviewed"
    assert after.queues[0].asks == before.queues[0].asks
    for one in after.queues[1:]:
        review_queues.delete_review_queue(one.queue_id)
    assert str(run.look(twice=1.0).progress) == "2 of 6 items reviewed"  # dan's counts once


@pytest.mark.usefixtures("raters")
def test_what_one_labelled_is_asked_of_a_second_rater_alone(tracker: Tracker) -> None:
    run = Round(tracker, "second", prompts=3)
    run.look()  # everybody's queue
    run.answer(0, "1234", rater="ann")
    run.answer(1, "1234", rater="dan")
    queue = run.look(twice=1.0)
    reviews = {
        at: {one.rater: one.review(item.key).by for one in queue.queues if item.key in one.asks}
        for at, item in enumerate(run.items)
    }
    assert sorted(reviews[1].values()) == ["", "dan"]  # dan's stands for one of the two
    assert list(reviews[2].values()) == ["", ""]
    assert {"ann"} >= {name for name in reviews[0].values() if name}
    assert sum(bool(by) for by in reviews[0].values()) == 1


@pytest.mark.usefixtures("raters")
def test_items_of_earlier_raters_do_not_end_a_wait(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_RATERS", "ann,bob")
    run = Round(tracker, "fewer", prompts=4)
    run.look(twice=0.25)
    for item in own(run, "ann"):
        run.answer(item, "", status="declined", queue_of="ann")
    monkeypatch.setenv("QUARTET_RATERS", "ann,bob,cyd")
    queue = run.look(share=0.5, twice=0.25)
    assert (queue.progress.declined, queue.needed) == (1, 3)
    assert len([one for one in queue.queues[0].reviews.values() if one.by]) == 3
    assert not is_awaited_queue_done(tracker, run.pipeline.run_id)
    for item in own(run, "bob"):
        run.answer(item, "", status="declined", queue_of="bob")
    assert is_awaited_queue_done(tracker, run.pipeline.run_id)


# --- two completions ----------------------------------------------------------------------------


def test_of_two_completions_people_say_which_is_better(tracker: Tracker) -> None:
    said = {
        "A is much better": [7, 1],
        "A is slightly better": [5, 3],
        "both are as good": [4, 4],
        "B is better": [2, 6],
        "cannot be judged": [None, None],
    }
    run = Round(tracker, "two", prompts=0)
    run.items = [item for answer in said if (item := Item.of(answer, ["x", "y"])) is not None]
    (queue,) = run.look().queues
    (asked,) = review_queues.get_review_queue(queue.queue_id).schema_ids
    question = get_label_schema(schema_id=asked)
    assert question.name == "Better of A and B"
    assert set(said) < set(question.input.options)
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ann")
    for item in run.items:
        trace_id = queue.asks[item.key]
        mlflow.log_feedback(trace_id=trace_id, name=question.name, value=item.prompt, source=human)
        review_queues.set_review_queue_item_status(
            queue.queue_id, item_id=trace_id, status="complete", completed_by="ann"
        )
    found = run.look()
    assert {one[0]: one[2] for one in ratings(found.labels)} == said
    assert who_answered(run.items[0], found.traces[run.items[0].key]) == ["ann"]


def test_of_comparison_and_ratings_of_two_completions_the_later_counts(tracker: Tracker) -> None:
    run = Round(tracker, "later", prompts=1)
    item = Item.of("later?", ["x", "y"])
    assert item is not None
    run.items = [item]
    trace_id = run.look().queues[0].asks[item.key]
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ann")

    def say(name: str, value: str) -> list[Any]:
        time.sleep(0.01)
        mlflow.log_feedback(trace_id=trace_id, name=name, value=value, source=human)
        review_queues.set_review_queue_item_status(
            run.look().queue_id, item_id=trace_id, status="complete", completed_by="ann"
        )
        return [one[2] for one in ratings(run.look().labels)]

    assert say("Quality of A", "7") == [[7, None]]
    assert say("Better of A and B", "B is better") == [[2, 6]]
    assert say("Quality of B", "3") == [[None, 3]]


def replace_digest(ref: StageRef) -> StageRef:
    return ref.model_copy(update={"digest": ref.digest[::-1]})


def test_share_is_reached_with_what_it_needs(tracker: Tracker) -> None:
    run = Round(tracker, "share")
    run.look(share=0.5)  # 1.5 of 3 items: two
    assert not is_awaited_queue_done(tracker, run.pipeline.run_id)
    run.answer(0, "12")
    run.look(share=0.5)
    assert not is_awaited_queue_done(tracker, run.pipeline.run_id)
    run.answer(1, "12")
    assert run.look(share=0.5).progress.reached(2)
    assert is_awaited_queue_done(tracker, run.pipeline.run_id)


def test_answers_that_are_none_count_for_nobody(tracker: Tracker) -> None:
    run = Round(tracker, "odd", prompts=1)
    run.answer(0, "90", rater="ann")
    assert ratings(run.look().labels) == []
    trace_id, *_ = run.answer(0, "12", rater="")
    program = AssessmentSource(source_type=AssessmentSourceType.CODE, source_id="bot")
    mlflow.log_feedback(trace_id=trace_id, name="Quality of C", value="7", source=program)
    assert [one[2] for one in ratings(run.look().labels)] == [[1, 2, None, None]]


def test_labels_that_a_run_went_on_with_are_kept(tracker: Tracker) -> None:
    run = Round(tracker, "kept", prompts=1)
    assert kept_labels(run.samples, run.pipeline) is None
    run.answer(0, "1234")
    labels = run.look().labels
    keep_labels(labels, run.samples, run.pipeline)
    run.answer(0, "4321")
    assert kept_labels(run.samples, run.pipeline) == labels
    assert kept_labels(replace_digest(run.samples), run.pipeline) is None  # of another round


@pytest.mark.slow
def test_restarted_server_has_lost_nothing(tracker: Tracker, running: Server) -> None:
    run = Round(tracker, "restart", prompts=1)
    run.answer(0, "1234")
    before = run.look()
    running.kill()
    with pytest.raises(ConnectionError, match="does not answer"):
        run.look()
    running.start()
    after = run.look()
    assert (after.queue_id, after.labels) == (before.queue_id, before.labels)


def test_queue_without_a_server_lies_in_the_home_folder(home: Path) -> None:
    """Then nobody shows it until a server does; nothing else differs."""
    run = Round(Tracker(load_settings()), "file", prompts=1)
    run.answer(0, "1234")
    queue = run.look()
    assert queue.page == ""
    assert queue.progress.complete == 1
