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
from prefect import flow

from tasks.results.store import StageRef
from tasks.run import reporting
from tasks.run.reporting import (
    Progress,
    announce_stage,
    emit,
    run_logger,
    show_link,
    show_markdown,
    steps_to_learn,
)

BAR = uuid.uuid4()


class Shown:
    """Stands in for Prefect's artifacts and for the clock."""

    def __init__(self) -> None:
        self.artifacts: list[dict[str, Any]] = []
        self.now = 1000.0
        self.outage = False

    def take(self, **fields: Any) -> uuid.UUID:
        if self.outage:
            raise ConnectionError("no Prefect server")
        self.artifacts.append(fields)
        return BAR


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """As if inside a Prefect run."""
    shown = Shown()
    for name in (
        "create_link_artifact",
        "create_markdown_artifact",
        "create_progress_artifact",
        "update_progress_artifact",
    ):
        monkeypatch.setattr(reporting, name, shown.take)
    monkeypatch.setattr(reporting, "emit_event", lambda event, **fields: shown.take(**fields))
    monkeypatch.setattr(reporting, "_in_run", lambda: True)
    monkeypatch.setattr(reporting, "time", SimpleNamespace(monotonic=lambda: shown.now))
    return shown


def test_reporting_shows_nothing_outside_a_run(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_in_run", lambda: False)
    show_markdown("key", "text", "what")
    show_link("key", "http://x", "x")
    progress = Progress("sft", 10)
    shown.now += 60
    progress.update({}, 1)
    progress.finish()
    assert shown.artifacts == []
    assert run_logger().name == "tasks.run.reporting"


def test_reporting_shows_texts_and_links_inside_a_run(shown: Shown) -> None:
    show_markdown("evaluation", "# Text", "what")
    show_link("sft-mlflow", "http://x", "here")
    assert shown.artifacts == [
        {"markdown": "# Text", "key": "evaluation", "description": "what"},
        {"link": "http://x", "link_text": "here", "key": "sft-mlflow"},
    ]


def test_progress_fills_its_bar_now_and_then_and_at_the_end(shown: Shown) -> None:
    progress = Progress("pretrain", 200)
    for step in range(1, 13):  # a second each: the bar moves every five seconds
        shown.now += 1.0
        progress.update({"pretrain/loss": 2.0}, step)
        progress.wait(5)
    progress.finish()
    first, *moved, last = shown.artifacts
    assert first["progress"] == 0.0
    assert [one["progress"] for one in moved] == [2.5, 5.0]  # steps 5 and 10 of 200
    assert {one["artifact_id"] for one in [*moved, last]} == {BAR}
    # 4 steps in 4 s after the first one; 195 steps left
    assert moved[0]["description"] == "pretrain: step 5 of 200, 1 steps/s, 195 s left"
    assert (last["progress"], last["description"]) == (100.0, "pretrain: done, 12 steps in 12 s")


def test_progress_shows_steps_and_rate_when_their_number_is_unknown(shown: Shown) -> None:
    progress = Progress("sft", 0)
    for step in (1, 31):
        shown.now += 60
        progress.update({}, step)
        progress.wait(5)
    progress.finish()
    assert [(one["progress"], one["description"]) for one in shown.artifacts] == [
        (0.0, "sft: starting"),
        (0.0, "sft: step 1"),
        (0.0, "sft: step 31, 0.5 steps/s"),
        (100.0, "sft: done, 31 steps in 120 s"),
    ]


def test_progress_never_goes_past_the_end(shown: Shown) -> None:
    progress = Progress("ppo", 2)
    shown.now += 60
    progress.update({}, 3)
    progress.wait(5)
    assert shown.artifacts[-1]["progress"] == 100.0


def test_progress_logs_the_headline_every_ten_seconds(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("ppo", 1000)
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
    progress = Progress("sft", 50)
    with caplog.at_level(logging.INFO, "tasks.run.reporting"):
        for step in range(1, 51):
            shown.now += 0.25  # five steps are a tenth and 1.25 s
            progress.update({}, step)
    steps = [record.getMessage().split(" of ")[0] for record in caplog.records]
    assert steps == [f"sft: step {step}" for step in range(5, 51, 5)]


def test_progress_keeps_silent_where_ten_marks_pass_within_a_second(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("sft", 10)
    with caplog.at_level(logging.INFO, "tasks.run.reporting"):
        for step in range(1, 11):
            shown.now += 0.05
            progress.update({}, step)
    assert caplog.records == []


def test_progress_does_not_wait_for_a_server_that_hangs(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    asked: list[float] = []

    def hang(**fields: Any) -> None:
        asked.append(fields["progress"])
        answered.wait(60)

    monkeypatch.setattr(reporting, "update_progress_artifact", hang)
    progress = Progress("sft", 100)
    for step in (10, 20, 30):
        shown.now += 10
        progress.update({}, step)  # the test would take minutes if one of these waited
    answered.set()
    progress.wait(5)
    assert asked == [10.0]


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
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("sft", 10)
    shown.outage = True
    shown.now += 60
    progress.update({}, 1)
    progress.finish()
    show_markdown("key", "text", "what")
    show_link("key", "http://x", "x")
    Progress("ppo", 10).finish()
    emit("quartet.alarm", "quartet.stage.ppo", {})
    assert caplog.text.count("no Prefect server") == 6
