"""Progress, links and texts: shown inside a Prefect run, left out elsewhere, never in the way."""

import logging
import uuid
from typing import Any

import pytest

from tasks import reporting
from tasks.reporting import Progress, run_logger, show_link, show_markdown

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
    monkeypatch.setattr(reporting, "_in_run", lambda: True)
    monkeypatch.setattr(reporting.time, "monotonic", lambda: shown.now)
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
    assert run_logger().name == "tasks.reporting"


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
    progress.finish()
    first, *moved, last = shown.artifacts
    assert first["progress"] == 0.0
    assert [one["progress"] for one in moved] == [2.5, 5.0]  # steps 5 and 10 of 200
    assert {one["artifact_id"] for one in [*moved, last]} == {BAR}
    # 4 steps in 4 s after the first one; 195 steps left
    assert moved[0]["description"] == "pretrain: step 5 of 200, 1 steps/s, 195 s left"
    assert last["progress"] == 100.0


def test_progress_has_no_bar_when_the_number_of_steps_is_unknown(shown: Shown) -> None:
    progress = Progress("sft", 0)
    shown.now += 60
    progress.update({}, 3)
    progress.finish()
    assert shown.artifacts == []


def test_progress_never_goes_past_the_end(shown: Shown) -> None:
    progress = Progress("ppo", 2)
    shown.now += 60
    progress.update({}, 3)
    assert shown.artifacts[-1]["progress"] == 100.0


def test_progress_logs_the_headline_every_twenty_seconds(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("ppo", 100)
    metrics = {"ppo/objective/score": 0.5, "ppo/time/rollout_seconds": 3.0}
    with caplog.at_level(logging.INFO, "tasks.reporting"):
        for step in range(1, 10):
            shown.now += 5.0
            progress.update(metrics, step)
    # at 20 s (step 4) and 40 s (step 8); 3 steps in 15 s are 0.2 a second, 96 are left
    assert [record.getMessage() for record in caplog.records] == [
        "ppo: step 4 of 100, 0.2 steps/s, 480 s left: ppo/objective/score 0.5",
        "ppo: step 8 of 100, 0.2 steps/s, 460 s left: ppo/objective/score 0.5",
    ]


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
    assert caplog.text.count("no Prefect server") == 5
