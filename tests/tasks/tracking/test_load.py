"""The load of the machine during a stage: sampled beside it, sent with its curves, ends with it."""

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.tracking import MlflowClient

from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.tracking import metrics as system_metrics
from tasks.tracking.client import Tracker
from tasks.tracking.metrics import COUNTING_SAMPLES, MetricBuffer, Point, SystemMetrics


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "system-metrics"]


class Samples(MetricBuffer):
    """A buffer that lets a test wait for samples."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.points: list[Point] = []
        self.enough = threading.Event()

    def hold(self, points: Any) -> None:
        self.points += list(points)
        if len({point.step for point in self.points}) >= 3:
            self.enough.set()


def test_system_metrics_count_samples_under_mlflows_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "SAMPLING_SECONDS", 0.01)
    buffer = Samples()
    load = SystemMetrics(buffer, first_step=7)
    load.start()
    assert threads() == ["system-metrics"]
    assert buffer.enough.wait(60)
    load.stop()
    load.stop()
    assert threads() == []
    cpu = [point for point in buffer.points if point.name == COUNTING_SAMPLES]
    assert [point.step for point in cpu] == list(range(7, 7 + len(cpu)))
    assert all(0 <= point.value <= 100 for point in cpu)
    names = {point.name for point in buffer.points}
    assert {"system/system_memory_usage_percentage", "system/disk_usage_percentage"} <= names
    assert all(name.startswith("system/") for name in names)


def test_system_metrics_sample_a_short_stage_once() -> None:
    buffer = Samples()
    load = SystemMetrics(buffer)
    load.start()
    load.stop()
    assert [point.step for point in buffer.points if point.name == COUNTING_SAMPLES] == [0]


def test_system_metrics_end_quietly_where_the_system_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(CPUMonitor, "collect_metrics", refuse)
    load = SystemMetrics(Samples())
    load.start()
    load.stop()
    assert threads() == []
    assert "load is not recorded any more: no such file" in caplog.text


# --- in a stage ---------------------------------------------------------------------------------


@pytest.fixture
def pipeline(home: Path) -> PipelineRun:
    run_id = Tracker(load_settings()).start_run("pipe", parameters={}, tags={})
    return PipelineRun(name="pipe", preset="toy", seed=0, run_id=run_id)


def spec(*, trains: bool = True) -> StageSpec:
    return StageSpec(
        name="toy", module="models.randomness", parameters={"toy": {"trains": trains}},
        trains=trains,
    )  # fmt: skip


def test_stage_that_trains_records_the_load_and_leaves_no_thread(pipeline: PipelineRun) -> None:
    during: list[str] = []

    def learn(_: Workspace) -> Mapping[str, float]:
        during.extend(threads())
        return {}

    ref = run_stage(spec(), pipeline, learn)
    assert during == ["system-metrics"]
    assert threads() == []
    assert COUNTING_SAMPLES in Tracker(load_settings()).metrics(ref.run_id)


def test_stage_that_does_not_train_records_no_load(pipeline: PipelineRun) -> None:
    ref = run_stage(spec(trains=False), pipeline, lambda _: {})
    assert COUNTING_SAMPLES not in Tracker(load_settings()).metrics(ref.run_id)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bad")])
def test_stage_that_is_cut_off_leaves_no_thread_and_counts_on(
    pipeline: PipelineRun, error: BaseException
) -> None:
    def fail(_: Workspace) -> Mapping[str, float]:
        raise error

    with contextlib.suppress(type(error)):
        run_stage(spec(), pipeline, fail)
    assert threads() == []
    ref = run_stage(spec(), pipeline, lambda _: {})
    history = Tracker(load_settings()).client.get_metric_history(ref.run_id, COUNTING_SAMPLES)
    assert sorted(point.step for point in history) == [0, 1]


def test_outage_during_a_stage_costs_no_sample(
    pipeline: PipelineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_metrics, "SAMPLING_SECONDS", 0.01)
    sampled = threading.Event()
    hold = MetricBuffer.hold

    def count(self: MetricBuffer, points: Any) -> None:
        points = list(points)
        hold(self, points)
        if any(point.step >= 3 for point in points):
            sampled.set()

    def down(*_: object, **__: object) -> None:
        raise MlflowException("down")

    def learn(work: Workspace) -> Mapping[str, float]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MlflowClient, "log_batch", down)
            assert sampled.wait(60)
            work.log({"toy/loss": 1.0}, 1)
        return {}

    monkeypatch.setattr(MetricBuffer, "hold", count)
    ref = run_stage(spec(), pipeline, learn)
    history = Tracker(load_settings()).client.get_metric_history(ref.run_id, COUNTING_SAMPLES)
    steps = sorted(point.step for point in history)
    assert len(steps) >= 4
    assert steps == list(range(len(steps)))
