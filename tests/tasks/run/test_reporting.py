"""Progress, links and texts: shown inside a Prefect run, left out elsewhere, never in the way."""

import logging
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect import flow, task

from tasks.results.store import StageRef
from tasks.run import cards, reporting
from tasks.run.cards import Card
from tasks.run.reporting import (
    Progress,
    announce_stage,
    emit,
    run_logger,
    show_markdown,
    steps_to_learn,
)


class Shown:
    """Stands in for the run's bar, for Prefect's events, and for the clock."""

    def __init__(self) -> None:
        self.bars: list[tuple[float, str]] = []
        self.left: list[float | None] = []
        self.events: list[dict[str, Any]] = []
        self.now = 1000.0
        self.outage = False

    def move(self, share: float, description: str, left: float | None) -> None:
        if self.outage:
            raise ConnectionError("no Prefect server")
        self.left.append(left)
        self.bars.append((share, description))

    def emit(self, event: str, **fields: Any) -> None:
        if self.outage:
            raise ConnectionError("no Prefect server")
        self.events.append(fields)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """As if inside a Prefect run."""
    shown = Shown()
    monkeypatch.setattr(reporting, "emit_event", shown.emit)
    monkeypatch.setattr(reporting, "_in_run", lambda: True)
    clock = SimpleNamespace(monotonic=lambda: shown.now, thread_time=lambda: shown.now)
    monkeypatch.setattr(reporting, "time", clock)
    return shown


def test_reporting_shows_nothing_outside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "get_client", None)  # asking for one would fail
    show_markdown("key", "text", "what")
    card = Card("key", "markdown")
    card.show("text", "what")
    assert card.address() == ""
    assert run_logger().name == "tasks.run.reporting"


def test_card_is_made_once_and_renewed_by_a_retry(prefect_server: str) -> None:
    attempts = []

    @task
    def stage() -> None:
        show_markdown("a-report", f"attempt {len(attempts)}", "of the stage")

    @flow(retries=1)
    def twice() -> str:
        attempts.append(1)
        card = Card("whole", "progress")
        card.show(50.0, "half")
        card.show(10.0 * len(attempts), "renewed")
        stage()
        gone = Card("gone", "progress")
        gone.show(1.0, "for a while")
        Card("gone", "progress").remove()
        if len(attempts) < 2:
            raise ValueError("once more")
        return card.address()

    state = twice(return_state=True)
    asked = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}}
    found = httpx.post(f"{prefect_server}/artifacts/filter", json=asked, timeout=10).json()
    ours = [one for one in found if one["key"]]  # the others are results of Prefect's
    shown = {one["key"]: one for one in ours}
    assert len(ours) == len(shown) == 2
    assert (shown["whole"]["data"], shown["whole"]["description"]) == (20.0, "renewed")
    assert shown["whole"]["task_run_id"] is None  # so it comes before those of tasks
    assert shown["a-report"]["data"] == "attempt 2"
    assert shown["a-report"]["task_run_id"]
    assert state.result() == f"/artifacts/artifact/{shown['whole']['id']}"


def test_progress_moves_the_bar_now_and_then_and_at_the_end(shown: Shown) -> None:
    progress = Progress("pretrain", 200, shown.move)
    for step in range(1, 13):  # a second each: the bar moves every five seconds
        shown.now += 1.0
        progress.update({"pretrain/loss": 2.0}, step)
        progress.wait(5)
    progress.finish()
    assert [share for share, _ in shown.bars] == [0.025, 0.05, 1.0]  # steps 5 and 10 of 200
    # 4 steps in 4 s after the first one; 195 steps left
    assert shown.bars[0][1] == "pretrain: step 5 of 200, 1 steps/s, 195 s left"
    assert shown.bars[-1][1] == "pretrain: done, 12 steps in 12 s"
    assert shown.left == [195.0, 190.0, 0.0]


def test_progress_promises_no_end_that_has_passed(shown: Shown) -> None:
    """How many steps a share of the prompts makes is counted roughly."""
    progress = Progress("reward", 10, shown.move)
    for step in range(1, 16):
        shown.now += 1.0
        progress.update({}, step)
        progress.wait(5)
    assert shown.bars[1:] == [
        (1.0, "reward: step 10 of 10, 1 steps/s, 0 s left"),
        (1.0, "reward: step 15, 1 steps/s"),
    ]
    assert shown.left[-1] is None


def test_progress_shows_steps_and_rate_when_their_number_is_unknown(shown: Shown) -> None:
    progress = Progress("sft", 0, shown.move)
    for step in (1, 31):
        shown.now += 60
        progress.update({}, step)
        progress.wait(5)
    progress.finish()
    assert shown.bars == [
        (0.0, "sft: step 1"),
        (0.0, "sft: step 31, 0.5 steps/s"),
        (1.0, "sft: done, 31 steps in 120 s"),
    ]


def test_progress_never_goes_past_the_end(shown: Shown) -> None:
    progress = Progress("ppo", 2, shown.move)
    shown.now += 60
    progress.update({}, 3)
    progress.wait(5)
    assert shown.bars[-1][0] == 1.0


def test_progress_draws_at_tenths_and_as_seldom_as_a_hundredth_of_the_time(shown: Shown) -> None:
    drawn: list[float] = []

    def draw() -> None:
        drawn.append(shown.now - 1000.0)
        shown.now += 2.0  # what drawing takes

    progress = Progress("ppo", 100, shown.move, draw)
    for step in range(1, 101):  # ten seconds each
        shown.now += 10.0 - (2.0 if drawn and drawn[-1] > shown.now - 1010.0 else 0.0)
        progress.update({}, step)
        progress.wait(5)
    # Step 10 is the first tenth, after 100 s; two more drawings of 2 s need 400 s, three 600 s.
    assert drawn == pytest.approx([100.0, 400.0, 600.0, 800.0, 1000.0], abs=12.0)


def test_progress_logs_the_headline_every_ten_seconds(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("ppo", 1000, shown.move)
    metrics = {"ppo/objective/score": 0.5, "ppo/time/rollout_seconds": 3.0}
    with caplog.at_level(logging.INFO, "tasks.run.reporting"):
        for step in range(1, 6):
            shown.now += 5.0
            progress.update(metrics, step)
    # at 10 s (step 2) and 20 s (step 4); one step in 5 s is 0.2 a second
    assert [record.getMessage() for record in caplog.records] == [
        "ppo: step 2 of 1000, 0.2 steps/s, 4990 s left: ppo/objective/score 0.5",
        "ppo: step 4 of 1000, 0.2 steps/s, 4980 s left: ppo/objective/score 0.5",
    ]


def test_progress_logs_each_tenth_of_a_fast_stage_but_not_each_step(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("sft", 50, shown.move)
    with caplog.at_level(logging.INFO, "tasks.run.reporting"):
        for step in range(1, 51):
            shown.now += 0.25  # five steps are a tenth and 1.25 s
            progress.update({}, step)
    steps = [record.getMessage().split(" of ")[0] for record in caplog.records]
    assert steps == [f"sft: step {step}" for step in range(5, 51, 5)]


def test_progress_keeps_silent_where_ten_marks_pass_within_a_second(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("sft", 10, shown.move)
    with caplog.at_level(logging.INFO, "tasks.run.reporting"):
        for step in range(1, 11):
            shown.now += 0.05
            progress.update({}, step)
    assert caplog.records == []


def test_progress_does_not_wait_for_a_server_that_hangs(shown: Shown) -> None:
    answered = threading.Event()
    asked: list[float] = []

    def hang(share: float, *_: object) -> None:
        asked.append(share)
        answered.wait(60)

    progress = Progress("sft", 100, hang)
    for step in (10, 20, 30):
        shown.now += 10
        progress.update({}, step)  # the test would take minutes if one of these waited
    answered.set()
    progress.wait(5)
    assert asked == [0.1]


@pytest.mark.parametrize(
    ("rows", "epochs", "batch", "steps"),
    [(100, 1.0, 32, 4), (64, 1.0, 32, 2), (10, 2.5, 5, 5), (1, 0.1, 8, 1)],
)
def test_reporting_counts_the_steps_of_an_epoch(
    tmp_path: Path, rows: int, epochs: float, batch: int, steps: int
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n" * rows)
    assert steps_to_learn(path, epochs=epochs, batch_size=batch) == steps
    assert steps_to_learn(tmp_path / "none.jsonl", epochs=epochs, batch_size=batch) == 0


def test_reporting_counts_the_steps_of_batches_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "a"}\n' * 5)
    assert steps_to_learn(path, epochs=3.0, batch_size=2, by_prompt=True) == 3  # 2 prompts
    assert steps_to_learn(path, epochs=3.0, batch_size=2) == 23  # 15 rows


def test_emit_reaches_the_server_with_labels_that_an_automation_can_match(
    prefect_server: str,
) -> None:
    ref = StageRef(
        stage="sft",
        digest="ab" * 32,
        seconds=1.5,
        metrics={"sft/heldout_loss": 2.0, "sft/rows": 9.0, "sft/loss": float("nan")},
    )

    @flow
    def say() -> None:
        announce_stage(ref, "toy-run")
        emit("quartet.model.registered", "quartet.model.toy-sft", {"role": "sft", "seconds": 1})

    say()
    wanted = {"quartet.stage.completed", "quartet.model.registered"}
    found: dict[str, Any] = {}
    for _ in range(100):  # events go out in a thread of their own
        asked = {"filter": {"event": {"name": sorted(wanted)}}, "limit": 50}
        answer = httpx.post(f"{prefect_server}/events/filter", json=asked, timeout=10).json()
        ours = [
            event
            for event in answer["events"]  # other tests' stages may be among them
            if event["payload"].get("digest") == ref.digest
            or event["resource"]["prefect.resource.id"] == "quartet.model.toy-sft"
        ]
        found = {event["event"]: event for event in ours}
        if wanted <= set(found):
            break
        time.sleep(0.2)
    done = found["quartet.stage.completed"]
    assert done["resource"]["prefect.resource.id"] == "quartet.stage.sft"
    assert done["payload"] == {
        "stage": "sft",
        "digest": "ab" * 32,
        "seconds": 1.5,
        "reused": False,
        "pipeline": "toy-run",
        "metrics": {"sft/heldout_loss": 2.0},
    }
    labels = found["quartet.model.registered"]["resource"]
    assert labels == {"prefect.resource.id": "quartet.model.toy-sft", "quartet.role": "sft"}
    assert any(
        related["prefect.resource.id"].startswith("prefect.flow-run.")
        for related in done["related"]
    )


def test_emit_says_nothing_outside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(reporting, "emit_event", lambda *a, **k: said.append(a))
    emit("quartet.alarm", "quartet.stage.ppo", {})
    assert said == []


def test_reporting_stops_nothing_when_prefect_is_away(
    shown: Shown, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> None:
        raise ConnectionError("no Prefect server")

    shown.outage = True
    progress = Progress("sft", 10, shown.move)
    shown.now += 60
    progress.update({}, 1)
    progress.finish()
    emit("quartet.alarm", "quartet.stage.ppo", {})
    assert caplog.text.count("no Prefect server") == 3
    monkeypatch.setattr(cards, "get_client", away)
    card = Card("key", "markdown")
    card._flow_run = uuid.uuid4()
    card.show("text", "what")
    assert card.address() == ""
    assert caplog.text.count("no Prefect server") == 5
