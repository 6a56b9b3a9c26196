"""Metrics on their way to MLflow: in batches, in order, and none lost by an outage."""

import contextvars
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import load_settings
from tasks.tracking import metrics as metric_buffer
from tasks.tracking.client import Tracker
from tasks.tracking.metrics import MetricBuffer, Point


@pytest.fixture
def tracker(home: Path) -> Tracker:
    return Tracker(load_settings())


def test_buffer_delivers_metrics_in_order_to_the_run(tracker: Tracker) -> None:
    run_id = tracker.start_run("a run", parameters={}, tags={})
    buffer = tracker.buffer(lambda: run_id)
    for step in (1, 2, 3):
        buffer.add({"train/loss": 1.0 / step}, step)
    assert buffer.flush()
    history = tracker.client.get_metric_history(run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]


def test_buffer_keeps_metrics_during_an_outage_and_delivers_them_later_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metric_buffer, "DELIVERY_SECONDS", 0.0)  # every add tries
    up = False
    tries = 0
    delivered: list[tuple[str, int]] = []

    def deliver(batch: Any) -> None:
        nonlocal tries
        tries += 1
        if not up:
            raise ConnectionError("refused")
        delivered.extend((metric.name, metric.step) for metric in batch)

    buffer = MetricBuffer(deliver)
    with caplog.at_level(logging.WARNING, "tasks.tracking.metrics"):
        for step in range(5):
            buffer.add({"a": 1.0, "b": 2.0}, step)
            buffer.wait()
        assert tries == 1  # a try may block for long, so the next ones wait
        assert not buffer.flush()
    assert delivered == []
    assert len(caplog.records) == 1  # one warning an outage, not one a step
    up = True
    buffer.add({"a": 1.0}, 5)
    assert buffer.flush()
    wanted = [(key, step) for step in range(5) for key in ("a", "b")] + [("a", 5)]
    assert delivered == wanted
    assert buffer.flush()
    assert delivered == wanted  # nothing twice


def test_buffer_delivers_no_more_at_once_than_mlflow_takes() -> None:
    sizes: list[int] = []
    buffer = MetricBuffer(lambda batch: sizes.append(len(list(batch))))
    buffer.add({f"m{index}": 0.0 for index in range(2500)}, 1)
    assert buffer.flush()
    assert sizes == [1000, 1000, 500]


def test_buffer_keeps_only_what_did_not_go_out_when_cut_off_between_batches() -> None:
    delivered: list[Point] = []

    def deliver(batch: Any) -> None:
        if len(delivered) == 1000:
            delivered.append(Point(name="outage", value=0.0, step=0, time_ms=0))
            raise ConnectionError("refused")
        delivered.extend(batch)

    buffer = MetricBuffer(deliver)
    buffer.add({f"m{index}": 0.0 for index in range(1500)}, 1)
    assert not buffer.flush()
    del delivered[1000:]
    delivered.append(Point(name="back", value=0.0, step=0, time_ms=0))
    assert buffer.flush()
    names = [metric.name for metric in delivered if metric.name.startswith("m")]
    assert names == [f"m{index}" for index in range(1500)]


def test_buffer_does_not_ask_the_server_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(metric_buffer.time, "monotonic", lambda: clock[0])
    calls: list[int] = []
    buffer = MetricBuffer(lambda batch: calls.append(len(list(batch))))
    for step in range(10):  # a second each: the fifth add comes 5.0 s after the start
        clock[0] += 1.0
        buffer.add({"loss": 1.0}, step)
        buffer.wait()
    assert calls == [5, 5]  # at 5.0 s and at 10.0 s


def test_buffer_lets_training_go_on_while_the_server_takes_its_time() -> None:
    answered = threading.Event()
    got: list[int] = []

    def deliver(batch: Any) -> None:
        answered.wait(60)
        got.extend(point.step for point in batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_buffer, "DELIVERY_SECONDS", 0.0)
        buffer = MetricBuffer(deliver)
        for step in range(3):  # returns although nobody has answered yet
            buffer.add({"a": 1.0}, step)
    assert got == []
    answered.set()
    assert buffer.flush()
    assert got == [0, 1, 2]  # in order, none twice


def test_buffer_delivers_in_the_context_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_buffer, "DELIVERY_SECONDS", 0.0)
    run: contextvars.ContextVar[str] = contextvars.ContextVar("run", default="none")
    seen: list[str] = []
    run.set("mine")
    buffer = MetricBuffer(lambda batch: seen.append(run.get()))
    buffer.add({"a": 1.0}, 0)
    buffer.wait()
    assert seen == ["mine"]


def test_buffer_tries_nothing_while_the_server_does_not_answer() -> None:
    tries: list[int] = []
    up = False
    buffer = MetricBuffer(lambda batch: tries.append(len(batch)), ready=lambda: up)
    buffer.add({"a": 1.0}, 1)
    assert not buffer.flush()
    assert buffer.interrupted
    assert tries == []
    up = True
    assert buffer.flush()
    assert tries == [1]


def test_buffer_resumes_within_half_a_minute_of_a_long_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(metric_buffer.time, "monotonic", lambda: clock[0])
    tries: list[float] = []

    def fail(batch: Any) -> None:
        tries.append(clock[0] - 100.0)
        raise ConnectionError("refused")

    buffer = MetricBuffer(fail)
    for step in range(131):
        buffer.add({"a": 1.0}, step)
        buffer.wait()
        clock[0] += 1.0
    # 5 s after the start, then pauses of 10, 20, 30, 30 and 30 s
    assert tries == [5.0, 15.0, 35.0, 65.0, 95.0, 125.0]


def test_buffer_keeps_the_newest_when_an_outage_outgrows_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metric_buffer, "MOST_WAITING", 3)
    got: list[int] = []
    up = False
    buffer = MetricBuffer(lambda batch: got.extend(point.step for point in batch), ready=lambda: up)
    for step in range(5):
        buffer.add({"a": 1.0}, step)
    assert not buffer.flush()
    up = True
    assert buffer.flush()
    assert got == [2, 3, 4]
    assert buffer.interrupted  # so the stage's end looks for the gap
