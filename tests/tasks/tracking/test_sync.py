"""An MLflow that goes away loses nothing: late deliveries, and `sync` from the store."""

import contextlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from models.errors import QuartetError
from models.rows import write_json, write_rows
from tasks.results.store import Manifest, StageRef, Store
from tasks.run import pipeline as pipeline_run
from tasks.run import record as stage_record
from tasks.run.pipeline import PipelineRun, open_pipeline
from tasks.run.spec import Page, Result, StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.tracking import metrics as metric_buffer
from tasks.tracking.client import Tracker
from tasks.tracking.outages import OutageNote, read_notes, write_note
from tasks.tracking.sync import _Sync, sync
from tests.tasks.tracking.mlflow_server import Server, wait_for

STEPS = 300


class Learning:
    """Three hundred steps of two metrics, with something happening at some of them."""

    def __init__(self, at: Mapping[int, Callable[[], object]] | None = None) -> None:
        self.at = dict(at or {})

    def __call__(self, work: Workspace) -> Mapping[str, float]:
        for step in range(1, STEPS + 1):
            work.log({"toy/loss": 1.0 / step, "toy/rate": float(step)}, step)
            self.at.get(step, lambda: None)()
        (work.out / "weights.bin").write_bytes(b"\x01\x02")
        write_rows(work.out / "samples.jsonl", [{"prompt": "P", "completion": "C"}])
        return {"toy/final": 42.0, "toy/loss": 1.0 / STEPS}


def spec(name: str = "toy", **inputs: StageRef) -> StageSpec:
    return StageSpec(
        name=name, module="models.randomness", parameters={"toy": {"size": 1}}, inputs=inputs
    )


def pipeline(name: str = "pipe") -> contextlib.AbstractContextManager[PipelineRun]:
    return open_pipeline(name=name, preset="toy", seed=3, parameters={"seed": 3})


def client() -> MlflowClient:
    return Tracker(load_settings()).client


def runs(**tags: str) -> list[Run]:
    tracker = Tracker(load_settings())
    found = tracker.find_tagged({f"quartet.{key}": value for key, value in tags.items()})
    return [tracker.client.get_run(run_id) for run_id in found]


def assert_whole(run: Run, parent: str = "") -> None:
    """The run of a finished stage holds everything, and every point exactly once."""
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "3", "toy.size": "1"}
    assert run.data.tags["quartet.published"] == run.data.tags["quartet.digest"]
    assert run.data.tags.get("mlflow.parentRunId", "") == parent
    wanted = {
        "toy/loss": [(step, 1.0 / step) for step in range(1, STEPS + 1)],
        "toy/rate": [(step, float(step)) for step in range(1, STEPS + 1)],
        "toy/final": [(0, 42.0)],
    }
    for name, points in wanted.items():
        history = client().get_metric_history(run.info.run_id, name)
        assert sorted((metric.step, metric.value) for metric in history) == points
    files = {file.path for file in client().list_artifacts(run.info.run_id, "published")}
    assert {"published/MANIFEST.json", "published/weights.bin"} <= files
    table = client().load_table(run.info.experiment_id, "samples.json", [run.info.run_id])
    assert list(table["prompt"]) == ["P"]


# --- a real server that is killed ---------------------------------------------------------------


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server, patience of fractions of a second, and stages that record there."""
    monkeypatch.setattr(metric_buffer, "DELIVERY_SECONDS", 0.02)
    monkeypatch.setattr(metric_buffer, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(metric_buffer, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(stage_record, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(pipeline_run, "WAIT_SECONDS", 0.2)
    with Server(home) as running:
        running.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", running.uri)
        yield running


def arrived(step: int) -> bool:
    """Whether a step of the one stage's curve is in MLflow already."""
    found = runs(stage="toy")
    return bool(found) and found[0].data.metrics.get("toy/rate", 0.0) >= step


@pytest.mark.slow
def test_outage_in_mid_training_loses_no_metric_of_any_step(server: Server) -> None:
    tracker = Tracker(load_settings())

    def lose() -> None:
        wait_for(lambda: arrived(1))
        server.kill()

    def come_back() -> None:
        server.start()
        time.sleep(0.2)  # past the longest pause: the next step tries again

    def check() -> None:
        assert arrived(200)  # delivered by the training, long before its end

    learning = Learning({100: lose, 200: come_back, 260: check})
    learning.at |= {step: lambda: time.sleep(0.03) for step in (99, 201, 202)}
    with pipeline() as parent:
        ref = run_stage(spec(), parent, learning)
    assert_whole(tracker.client.get_run(ref.run_id), parent.run_id)
    assert tracker.status(parent.run_id) == "FINISHED"
    assert read_notes(load_settings().root) == []
    assert sync(load_settings()) == []


@pytest.mark.slow
def test_outage_for_good_keeps_the_result_and_says_how_to_record_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def lose() -> None:
        wait_for(lambda: arrived(1))
        server.kill()

    with caplog.at_level(logging.INFO), pipeline() as parent:
        ref = run_stage(spec(), parent, Learning({99: lambda: time.sleep(0.03), 100: lose}))
    assert Store(load_settings().store).find("toy", ref.digest) is not None
    for what in ("the result of toy", "the end of pipe"):
        (line,) = [r.getMessage() for r in caplog.records if what in r.getMessage()]
        assert "could not be recorded" in line
        assert "`quartet sync`" in line
    with pytest.raises(QuartetError, match="does not answer"):
        sync(load_settings())
    server.start()
    said = sync(load_settings())
    assert [sentence.split(":")[0] for sentence in said] == [f"toy {ref.digest[:12]}", "pipe"]
    run = client().get_run(ref.run_id)
    assert_whole(run, parent.run_id)
    assert client().get_run(parent.run_id).info.status == "FINISHED"
    assert sync(load_settings()) == []


@pytest.mark.slow
def test_outage_before_the_stage_began_is_made_good_when_the_server_is_back(
    server: Server,
) -> None:
    with pipeline() as parent:
        server.kill()
        lost = run_stage(spec(), parent, Learning())  # gone from its first to its last second
        assert lost.run_id == ""
        assert [note.stage for note in read_notes(load_settings().root)] == ["toy"]
        back = Learning({100: server.start, 101: lambda: time.sleep(0.2)})
        late = run_stage(spec("late", base=lost), parent, back)
    (run,) = runs(stage="toy")  # the pipeline's end delivered it
    assert_whole(run, parent.run_id)
    assert run.info.run_name == "pipe/toy"
    assert late.run_id
    tags = client().get_run(late.run_id).data.tags
    assert tags["input.base"] == f"toy/{lost.digest}"
    assert_whole(client().get_run(late.run_id), parent.run_id)
    assert read_notes(load_settings().root) == []
    assert sync(load_settings()) == []


@pytest.mark.slow
def test_pipeline_waits_at_its_end_for_a_server_that_is_starting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_run, "WAIT_SECONDS", 120.0)
    with pipeline() as parent:
        run_stage(spec(), parent, Learning({100: server.kill}))
        server.begin()
    (run,) = runs(stage="toy")
    assert_whole(run, parent.run_id)
    assert client().get_run(parent.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_outage_does_not_delay_a_cancel(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Tracker, "wait", lambda self, seconds: waited.append(seconds))

    def cancel() -> None:
        server.kill()
        raise KeyboardInterrupt

    parents: list[str] = []
    with contextlib.suppress(KeyboardInterrupt), pipeline() as parent:
        parents.append(parent.run_id)
        run_stage(spec(), parent, Learning({100: cancel}))
    assert waited == []
    server.start()
    said = sync(load_settings())
    assert len(said) == 2
    assert [run.info.status for run in runs(stage="toy")] == ["KILLED"]
    assert client().get_run(parents[0]).info.status == "KILLED"
    assert sync(load_settings()) == []


# --- sync, with a local database ----------------------------------------------------------------


@contextlib.contextmanager
def outage() -> Iterator[None]:
    """Every call that writes fails."""

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("down")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create_run", "log_batch", "log_artifacts", "set_terminated", "update_run"):
            patch.setattr(MlflowClient, name, fail)
        yield


@pytest.mark.usefixtures("home")
def test_sync_does_nothing_when_everything_is_recorded() -> None:
    assert sync(load_settings()) == []
    with pipeline() as parent:
        run_stage(spec(), parent, Learning())
        run_stage(spec(), parent, Learning())  # reused
    assert sync(load_settings()) == []


def test_sync_fills_an_mlflow_that_knows_nothing_of_the_store(
    home: Path, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline() as parent:
        base = run_stage(spec("base"), parent, Learning())
        toy = run_stage(spec("toy", base=base), parent, Learning())
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home / "store", elsewhere / "store")
    shutil.copyfile(mlflow_template, elsewhere / "mlflow.db")
    monkeypatch.setenv("QUARTET_HOME", str(elsewhere))
    before = {path: path.read_bytes() for path in elsewhere.glob("store/**/*") if path.is_file()}
    said = sync(load_settings())
    assert [sentence[:4] for sentence in said] == ["base", "toy "]
    assert all("a new MLflow run" in sentence and "600 points" in sentence for sentence in said)
    (run,) = runs(stage="toy")
    assert_whole(run)
    assert run.data.tags["input.base"] == f"base/{base.digest}"
    assert Tracker(load_settings()).find_published(toy.digest) == run.info.run_id
    assert sync(load_settings()) == []
    # the store is the truth and stays as it was
    after = {path: path.read_bytes() for path in elsewhere.glob("store/**/*") if path.is_file()}
    assert after == before


@pytest.mark.usefixtures("home")
def test_sync_leaves_alone_what_somebody_deleted() -> None:
    with pipeline() as parent:
        ref = run_stage(spec(), parent, Learning())
    client().delete_run(ref.run_id)
    assert sync(load_settings()) == []


@pytest.mark.usefixtures("home")
def test_sync_leaves_alone_what_it_recorded_itself_and_somebody_deleted() -> None:
    with contextlib.ExitStack() as stack, pipeline() as parent:
        stack.enter_context(outage())  # which outlasts the pipeline
        run_stage(spec(), parent, Learning())
    assert "a new MLflow run" in sync(load_settings())[0]
    (run,) = runs(stage="toy")
    client().delete_run(run.info.run_id)
    assert sync(load_settings()) == []


def test_sync_fills_an_mlflow_that_was_restored_from_an_older_copy(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.tracking.sync.Seen.MARGIN", 0.0)
    with pipeline() as parent:
        run_stage(spec("early"), parent, Learning())
    shutil.copyfile(home / "mlflow.db", tmp_path / "copy.db")
    with pipeline() as parent:
        late = run_stage(spec("late"), parent, Learning())
    assert sync(load_settings()) == []
    shutil.copyfile(tmp_path / "copy.db", home / "mlflow.db")
    (said,) = sync(load_settings())
    assert said.startswith(f"late {late.digest[:12]}: recorded in a new MLflow run")
    assert sync(load_settings()) == []


@pytest.mark.usefixtures("home")
def test_sync_leaves_a_run_that_another_host_resumed_to_that_host() -> None:
    tracker = Tracker(load_settings())
    for host, ended in ((socket.gethostname(), "KILLED"), ("another", "RUNNING")):
        run = tracker.start_run("pipe", parameters={}, tags={"quartet.host": host})
        write_note(load_settings().root, OutageNote(name="pipe", run_id=run, status="KILLED"))
        sync(load_settings())
        assert tracker.status(run) == ended
    assert read_notes(load_settings().root) == []


@pytest.mark.usefixtures("home")
def test_sync_uses_the_run_that_was_opened_without_an_answer() -> None:
    with contextlib.ExitStack() as stack, pipeline() as parent:
        stack.enter_context(outage())  # which outlasts the pipeline
        ref = run_stage(spec(), parent, Learning())
    tags = {"quartet.digest": ref.digest, "mlflow.parentRunId": parent.run_id}
    orphan = Tracker(load_settings()).start_run("pipe/toy", parameters={}, tags=tags)
    (said, _) = sync(load_settings())
    assert f"its MLflow run {orphan}" in said
    (run,) = runs(digest=ref.digest)
    assert_whole(run, parent.run_id)


@pytest.mark.usefixtures("home")
def test_sync_adds_nothing_twice_to_a_run_that_lacks_only_its_end() -> None:
    def fail(*_: object, **__: object) -> None:
        raise MlflowException("down")

    with pytest.MonkeyPatch.context() as patch, pipeline() as parent:
        patch.setattr(MlflowClient, "set_terminated", fail)
        patch.setattr(pipeline_run, "deliver_notes", fail)
        ref = run_stage(spec(), parent, Learning())
        assert client().get_run(ref.run_id).data.metrics["toy/final"] == 42.0
        time.sleep(0.01)  # a second final number would differ in its time
    (said, _) = sync(load_settings())
    assert "its MLflow run" in said
    assert "0 points added" in said
    assert_whole(client().get_run(ref.run_id), parent.run_id)


@pytest.mark.usefixtures("home")
def test_stage_resumed_after_a_kill_shows_the_steps_that_were_still_in_memory() -> None:
    def learn(work: Workspace) -> Mapping[str, float]:
        done = work.checkpoints / "done"
        start = int(done.read_text()) if done.exists() else 0
        for step in range(start + 1, 5):
            work.log({"toy/rate": float(step)}, step)
            done.write_text(str(step))
            if step == 2:
                raise KeyboardInterrupt
        return {}

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(stage_record.StageRecord, "abort", lambda *_: None)  # as by kill -9
        with pipeline() as first:
            run_stage(spec(), first, learn)
    with pipeline() as second:
        ref = run_stage(spec(), second, learn)
    history = client().get_metric_history(ref.run_id, "toy/rate")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4]


@pytest.mark.usefixtures("home")
def test_sync_says_which_result_is_damaged_and_goes_on() -> None:
    with contextlib.ExitStack() as stack, pipeline() as parent:
        stack.enter_context(outage())  # which outlasts the pipeline
        bad = run_stage(spec("bad"), parent, Learning())
        good = run_stage(spec("toy"), parent, Learning())
    (Store(load_settings().store).folder("bad", bad.digest) / "weights.bin").write_bytes(b"")
    said = sync(load_settings())
    assert any("bad" in one and "not recorded" in one and "weights.bin" in one for one in said)
    assert runs(stage="bad") == []
    (run,) = runs(stage="toy")
    assert run.data.tags["quartet.digest"] == good.digest


@pytest.mark.usefixtures("home")
def test_sync_puts_a_verdict_on_the_pipelines_that_lack_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judge(work: Workspace) -> Mapping[str, float]:
        write_json(work.out / "verdict.json", {"accepted": True, "reasons": []})
        return {"final/gold_gain": 0.25}

    def view(result: Result, plots: Path) -> Page:
        return Page(
            title="Verdict",
            markdown="the report",
            on_pipeline=True,
            tags={"quartet.verdict": "accepted"},
        )

    judging = replace(spec("evaluate"), view=view)
    with pipeline("one") as first:
        run_stage(judging, first, judge)
    with pipeline("two") as second, monkeypatch.context() as broken:

        def fail(*args: Any, **named: Any) -> None:
            raise ConnectionError("MLflow went away when the stage's own run was closed")

        broken.setattr(stage_record, "show_output", fail)
        run_stage(judging, second, judge)  # reused
    assert len(sync(load_settings())) == 1
    for parent in (first, second):
        run = client().get_run(parent.run_id)
        final = {name for name in run.data.metrics if name.startswith("final/")}
        assert final == {"final/accepted", "final/seconds"}
        assert run.data.tags["quartet.verdict"] == "accepted"
        assert run.data.tags["mlflow.note.content"] == "the report\n"
    assert sync(load_settings()) == []


def test_sync_asks_only_about_what_came_since_it_found_everything(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def shown(job: _Sync, manifests: Sequence[Manifest]) -> set[str]:
        asked.extend(one.digest for one in manifests)
        return really(job, manifests)

    really = _Sync._shown_by_their_own
    monkeypatch.setattr(_Sync, "_shown_by_their_own", shown)
    monkeypatch.setattr("tasks.tracking.sync.Seen.MARGIN", 0.0)
    with pipeline() as parent:
        old = run_stage(spec("old"), parent, Learning())
    asked.clear()
    assert sync(load_settings()) == []
    assert asked == [old.digest]
    assert sync(load_settings()) == []
    assert asked == [old.digest]
    # what was made long ago elsewhere, and was copied with its times
    monkeypatch.setenv("QUARTET_HOME", str(tmp_path / "elsewhere"))
    with pipeline() as parent:
        copied = run_stage(spec("copied"), parent, Learning())
    there = tmp_path / "elsewhere" / "store" / "copied" / copied.digest
    for path in (there, *there.rglob("*")):
        os.utime(path, (0, 0))
    monkeypatch.setenv("QUARTET_HOME", str(home))
    asked.clear()
    shutil.copytree(there, home / "store" / "copied" / copied.digest)
    (said,) = sync(load_settings())
    assert said.startswith("copied ")
    assert asked == [copied.digest]
    (home / "synced.json").write_text("torn")
    assert sync(load_settings()) == []
    assert set(asked) == {old.digest, copied.digest}


@pytest.mark.usefixtures("home")
def test_sync_goes_on_past_a_note_that_a_power_cut_tore(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(load_settings())
    run_id = tracker.start_run("mine", parameters={}, tags={})
    root = load_settings().root
    write_note(root, OutageNote(name="mine", run_id=run_id, status="KILLED"))
    (root / "unrecorded" / "torn.json").write_bytes(b"\0" * 40)
    assert sync(load_settings()) == [f"mine: marked as KILLED in MLflow run {run_id}"]
    assert "torn.json, which cannot be read" in caplog.text


@pytest.mark.usefixtures("home")
def test_sync_says_how_far_it_came_when_mlflow_fails_on_the_way() -> None:
    with contextlib.ExitStack() as stack, pipeline() as parent:
        stack.enter_context(outage())  # which outlasts the pipeline
        run_stage(spec(), parent, Learning())
    with outage(), pytest.raises(QuartetError, match=r"middle of the backfill.*quartet sync"):
        sync(load_settings())
    assert len(sync(load_settings())) == 2


@pytest.mark.usefixtures("home")
def test_sync_records_the_others_where_mlflow_refuses_one_for_good() -> None:
    def learn(work: Workspace) -> Mapping[str, float]:
        return {"score/.": 1.0}  # a name that MLflow refuses

    with contextlib.ExitStack() as stack, pipeline() as parent:
        stack.enter_context(outage())  # which outlasts the pipeline
        refused = run_stage(spec("evaluate-models"), parent, learn)
        toy = run_stage(spec("toy"), parent, Learning())
    with pytest.raises(QuartetError) as said:
        sync(load_settings())
    assert f"at evaluate-models-{refused.digest} (Invalid value" in str(said.value)
    assert f"toy {toy.digest[:12]}: recorded" in str(said.value)
    assert [note.digest for note in read_notes(load_settings().root)] == [refused.digest]
    assert_whole(runs(stage="toy")[0], parent.run_id)
    assert Tracker(load_settings()).status(parent.run_id) == "FINISHED"


@pytest.mark.usefixtures("home")
def test_run_is_opened_once_though_sender_and_end_of_the_stage_both_want_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an outage at the start, a delivery is just opening the run when the stage ends."""
    first, second = threading.Event(), threading.Event()
    create = MlflowClient.create_run

    def slowly(self: MlflowClient, *args: Any, **named: Any) -> Run:
        if first.is_set():
            second.set()
        else:
            first.set()
            second.wait(0.5)  # nobody comes, unless two open at once
        return create(self, *args, **named)

    with pipeline() as parent:
        record = stage_record.StageRecord(spec(), "a" * 64, parent, load_settings())
        with outage():
            buffer = record.open(Store(load_settings().store).partial("toy", "a" * 64))
        monkeypatch.setattr(MlflowClient, "create_run", slowly)
        buffer._pause = 0.0  # the next number goes out at once
        buffer.add({"toy/rate": 1.0}, 1)
        assert first.wait(60)
        run_id = record.settle()
    assert [run.info.run_id for run in runs(digest="a" * 64)] == [run_id]
    assert client().get_run(run_id).data.metrics == {"toy/rate": 1.0}
