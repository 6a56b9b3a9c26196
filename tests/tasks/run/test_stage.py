"""What happens around a stage's learning, with a toy for the learning and a real local MLflow."""

import contextlib
import errno
import logging
import math
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from prefect.exceptions import TerminationSignal

from models.errors import DataError, StoreError
from models.rows import write_rows
from tasks.machine.liveness import announced
from tasks.machine.time_limit import TimeIsUp
from tasks.results.curves import read_history
from tasks.results.store import StageRef, Store, write_whole
from tasks.run import record, spent, stage
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import Page, Result, StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder
from tasks.tracking.sync import sync

MIB = 2**20


class Toy:
    """A learning of three steps that goes on from its checkpoint and may be made to fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.first_steps: list[int] = []
        self.at_step: Callable[[int], None] = lambda step: None
        self.loss = 1.0

    def __call__(self, work: Workspace) -> Mapping[str, float]:
        self.calls += 1
        done = work.checkpoints / "done"
        start = int(done.read_text()) if done.exists() else 0
        self.first_steps.append(start + 1)
        for step in range(start + 1, 4):
            work.log({"toy/loss": self.loss / step}, step)
            self.at_step(step)
            done.write_text(str(step))
        (work.out / "model").mkdir()
        (work.out / "model" / "weights.bin").write_bytes(b"\x01\x02")
        write_rows(work.out / "samples.jsonl", [{"prompt": "P", "completion": "C"}])
        return {"toy/final": 42.0, "toy/unknown": math.nan}


@pytest.fixture
def toy() -> Toy:
    return Toy()


def begin(name: str = "pipe", seed: int = 0) -> PipelineRun:
    """Open the parent run of a pipeline."""
    run_id = Tracker(load_settings()).start_run(name, parameters={}, tags={})
    return PipelineRun(name=name, preset="toy", seed=seed, run_id=run_id)


def spec(name: str = "toy", size: int = 1, **inputs: StageRef) -> StageSpec:
    return StageSpec(
        name=name, module="models.randomness", parameters={"toy": {"size": size}}, inputs=inputs
    )


def client() -> MlflowClient:
    return Tracker(load_settings()).client


def children(pipeline: PipelineRun) -> list[Run]:
    tracker = Tracker(load_settings())
    return list(
        tracker.client.search_runs(
            [tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{pipeline.run_id}'"
        )
    )


def folder_of(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def fail_at(step: int, error: BaseException) -> Callable[[int], None]:
    def check(now: int) -> None:
        if now == step:
            raise error

    return check


# --- computing and reusing ----------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_stage_computes_and_records_what_it_made(toy: Toy) -> None:
    pipeline = begin(seed=5)
    ref = run_stage(spec(), pipeline, toy)
    assert (ref.stage, ref.reused, ref.metrics) == ("toy", False, {"toy/final": 42.0})
    manifest = Store(load_settings().store).find("toy", ref.digest)
    assert manifest is not None
    assert sorted(manifest.files) == ["metrics.jsonl", "model/weights.bin", "samples.jsonl"]
    assert (manifest.seed, manifest.run_id) == (5, ref.run_id)
    assert manifest.parameters == {"toy": {"size": 1}}
    (run,) = children(pipeline)
    assert run.info.run_id == ref.run_id
    assert (run.info.run_name, run.info.status) == ("pipe/toy", "FINISHED")
    assert run.data.params == {"seed": "5", "toy.size": "1"}
    cost = {"usage/seconds": manifest.seconds, "usage/peak_memory_gib": manifest.peak_gib}
    assert run.data.metrics == {"toy/loss": 1 / 3, "toy/final": 42.0} | cost
    assert run.data.tags["quartet.published"] == ref.digest
    history = client().get_metric_history(ref.run_id, "toy/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    artifacts = {file.path for file in client().list_artifacts(ref.run_id)}
    assert artifacts == {"published", "samples.json"}


@pytest.mark.usefixtures("home")
def test_stage_shows_its_page_in_the_home_folder_and_on_both_runs(toy: Toy) -> None:
    def view(result: Result, plots: Path) -> Page:
        picture = plots / "loss.png"
        picture.write_bytes(b"PNG")
        return Page(
            title="The toy",
            markdown=f"final {result.metrics['toy/final']:.0f}, size {result.parameters['toy']}",
            pictures=[picture],
            on_pipeline=True,
            tags={"toy": "seen"},
        )

    settings = load_settings()
    text = "final 42, size {'size': 1}\n"
    for number in range(2):  # the second is reused
        pipeline = begin(f"pipe{number}")
        ref = run_stage(replace(spec(), view=view), pipeline, toy)
        shown = page_folder(settings.root, "toy", ref.digest)
        assert (shown / "report.md").read_text() == text
        assert (shown / "plots" / "loss.png").read_bytes() == b"PNG"
        assert client().list_artifacts(pipeline.run_id, "plots")[0].path == "plots/loss.png"
        tags = client().get_run(pipeline.run_id).data.tags
        assert (tags["mlflow.note.content"], tags["toy"]) == (text, "seen")
    assert {one.path for one in client().list_artifacts(ref.run_id, "report")} == {
        f"report/{name}" for name in ("report.md", "plots", "page.json")
    }
    assert run_stage(spec(), begin("plain"), toy).digest == ref.digest  # a view is no identity


@pytest.mark.usefixtures("home")
def test_stage_outlives_a_view_that_fails(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    def view(result: Result, plots: Path) -> Page:
        raise ZeroDivisionError("a picture of nothing")

    ref = run_stage(replace(spec(), view=view), begin(), toy)
    assert ref.metrics == {"toy/final": 42.0}
    assert "no report on toy could be made (ZeroDivisionError: a picture of nothing)" in caplog.text


@pytest.mark.usefixtures("home")
def test_stage_leaves_out_what_is_no_number_so_that_its_manifest_can_be_read(toy: Toy) -> None:
    fresh = run_stage(spec(), begin(), toy)
    left = Store(load_settings().store).partial("toy", fresh.digest)  # by a kill after publishing
    reused = run_stage(spec(), begin(), toy)
    assert not left.exists()
    assert reused.reused
    assert fresh.metrics == reused.metrics == {"toy/final": 42.0}


@pytest.mark.usefixtures("home")
def test_stage_leaves_no_checkpoints_and_no_scraps_when_published(toy: Toy) -> None:
    ref = run_stage(spec(), begin(), toy)
    names = {path.name for path in folder_of(ref).parent.iterdir()}
    assert names == {ref.digest, f"{ref.digest}.lock"}


@pytest.mark.usefixtures("home")
def test_stage_is_reused_by_another_pipeline(toy: Toy) -> None:
    first = run_stage(spec(), begin("one"), toy)
    pipeline = begin("two")
    second = run_stage(spec(), pipeline, toy)
    assert toy.calls == 1
    assert second.reused
    assert (second.digest, second.metrics) == (first.digest, first.metrics)
    assert second.run_id == first.run_id  # the run that made it
    (run,) = children(pipeline)
    assert run.info.run_id != first.run_id
    assert run.data.tags["quartet.reused"] == "true"
    assert run.data.tags["quartet.made_by"] == first.run_id
    assert run.info.status == "FINISHED"
    made = client().get_run(first.run_id).data.metrics
    cost = {name: made[name] for name in ("usage/seconds", "usage/peak_memory_gib")}
    assert run.data.metrics == {"toy/final": 42.0} | cost
    assert run.data.params == {"seed": "0", "toy.size": "1"}


@pytest.mark.usefixtures("home")
def test_stage_is_computed_anew_for_another_parameter_seed_or_input(toy: Toy) -> None:
    pipeline = begin()
    base = run_stage(spec("base"), pipeline, toy)
    other_base = run_stage(spec("base", size=2), pipeline, toy)
    refs = [
        run_stage(spec(base=base), pipeline, toy),
        run_stage(spec(size=2, base=base), pipeline, toy),
        run_stage(spec(base=other_base), pipeline, toy),
        run_stage(spec(base=base), begin(seed=1), toy),
    ]
    assert toy.calls == 2 + 4
    assert len({ref.digest for ref in refs}) == 4
    assert run_stage(spec(base=base), pipeline, toy).digest == refs[0].digest
    assert toy.calls == 6


@pytest.mark.usefixtures("home")
def test_stage_gives_the_verified_folders_of_its_inputs_and_says_whose_they_are(toy: Toy) -> None:
    pipeline = begin()
    base = run_stage(spec("base"), pipeline, toy)
    seen: dict[str, Path] = {}

    def learn(work: Workspace) -> Mapping[str, float]:
        seen.update(work.inputs)
        return {}

    ref = run_stage(spec("sft", base=base), pipeline, learn)
    assert seen == {"base": folder_of(base)}
    tags = client().get_run(ref.run_id).data.tags
    assert tags["input.base"] == f"base/{base.digest}"
    assert tags["input.base.run_id"] == base.run_id


@pytest.mark.usefixtures("home")
def test_stage_is_computed_once_when_two_threads_want_it(toy: Toy) -> None:
    waiting, begun = threading.Event(), threading.Event()

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another run is computing it" in record.getMessage():
                waiting.set()

    def hold(step: int) -> None:
        begun.set()
        assert waiting.wait(60)

    toy.at_step = hold
    refs: list[StageRef] = []
    first, second = begin("one"), begin("two")
    logger = logging.getLogger("tasks.run.reporting")
    level, handler = logger.level, Listen()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        threads = [
            threading.Thread(target=lambda p=one: refs.append(run_stage(spec(), p, toy)))
            for one in (first, second)
        ]
        threads[0].start()
        assert begun.wait(60)
        threads[1].start()
        for thread in threads:
            thread.join(60)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert toy.calls == 1
    assert sorted(ref.reused for ref in refs) == [False, True]
    assert refs[0].digest == refs[1].digest


@pytest.mark.usefixtures("home")
def test_stage_is_one_child_of_its_pipeline_however_often_it_is_found_again(toy: Toy) -> None:
    other = run_stage(spec("base"), begin("other"), toy)
    pipeline = begin()
    for _ in range(3):  # a flow run that is retried goes through its stages again
        base = run_stage(spec("base"), pipeline, toy)
        made = run_stage(spec("toy", base=base), pipeline, toy)
    assert base.digest == other.digest
    runs = {run.data.tags["quartet.stage"]: run for run in children(pipeline)}
    assert len(children(pipeline)) == 2
    assert runs["toy"].info.run_id == made.run_id
    assert "quartet.reused" not in runs["toy"].data.tags
    assert runs["base"].data.tags["quartet.made_by"] == other.run_id


@pytest.mark.usefixtures("home")
def test_stage_shows_its_few_numbers_and_alarms_only_where_they_were_raised() -> None:
    def learn(work: Workspace) -> Mapping[str, float]:
        for step, raised in enumerate((0.0, 1.0, 0.0), start=1):
            work.log({"sft/loss": 1.0, "sft/alarm/kl": raised, "sft/alarm/length": 0.0}, step)
        return {"sft/loss": 1.0, "sft/heldout_perplexity": 8.0, "sft/dropped_rows": 3.0}

    ref = run_stage(spec("sft"), begin(), learn)
    shown = client().get_run(ref.run_id).data.metrics
    few = {"sft/loss", "sft/alarm/kl", "sft/heldout_perplexity"}
    assert shown.keys() == few | {"usage/seconds", "usage/peak_memory_gib"}
    assert [one.step for one in client().get_metric_history(ref.run_id, "sft/alarm/kl")] == [2]
    manifest = Store(load_settings().store).find("sft", ref.digest)
    assert manifest is not None
    assert manifest.metrics["sft/dropped_rows"] == 3.0
    assert len(read_history(folder_of(ref))["sft/alarm/length"]) == 3


# --- failing and going on -----------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_stage_that_fails_is_marked_and_keeps_its_checkpoints(toy: Toy) -> None:
    toy.at_step = fail_at(3, RuntimeError("boom"))
    pipeline = begin()
    with pytest.raises(RuntimeError, match="boom"):
        run_stage(spec(), pipeline, toy)
    (run,) = children(pipeline)
    assert run.info.status == "FAILED"
    assert run.data.metrics["toy/loss"] == 1 / 3  # what was logged before went out
    assert "quartet.published" not in run.data.tags
    (partial,) = (load_settings().store / "toy").glob("*.partial")
    assert (partial / "checkpoints" / "done").read_text() == "2"
    assert not list((load_settings().store / "toy").glob("*.writing"))
    assert Store(load_settings().store).find("toy", partial.stem) is None


@pytest.mark.usefixtures("home")
def test_stage_costs_what_all_its_attempts_took(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    for module in (stage, spent):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def attempt(seconds: float, end: BaseException | None) -> None:
        def work(step: int) -> None:
            clock.now += seconds
            if end is not None:
                raise end

        toy.at_step = work

    pipeline = begin()
    for error in (KeyboardInterrupt(), RuntimeError("boom"), TimeIsUp("late")):
        attempt(200.0, error)
        with pytest.raises(type(error)):
            run_stage(spec(), pipeline, toy)
        clock.now += 5000.0  # nobody works
    (partial,) = (load_settings().store / "toy").glob("*.partial")
    assert float((partial / spent.SPENT).read_text()) == 600.0
    (partial / spent.SPENT).write_text("torn")  # by a power cut: then only what is known counts
    attempt(10.0, SystemExit())
    with pytest.raises(SystemExit):
        run_stage(spec(), pipeline, toy)
    attempt(2.0, None)
    ref = run_stage(spec(), pipeline, toy)
    assert ref.seconds == 10.0 + 3 * 2.0
    (run,) = children(pipeline)
    assert run.data.metrics["usage/seconds"] == 16.0


@pytest.mark.usefixtures("home")
def test_stage_that_was_killed_costs_what_it_had_noted(toy: Toy, monkeypatch: Any) -> None:
    """A kill runs no code, so the time is noted while the stage learns."""
    monkeypatch.setattr(spent, "NOTE_SECONDS", 0.0)
    noted: list[float] = []

    def look(step: int) -> None:
        (path,) = (load_settings().store / "toy").glob(f"*.partial/{spent.SPENT}")
        noted.append(float(path.read_text()))

    toy.at_step = look
    run_stage(spec(), begin(), toy)
    assert 0 < noted[0] < noted[2]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "error",  # Ctrl-C, a cancel from Prefect's UI, a time limit
    [KeyboardInterrupt(), TerminationSignal(signal.SIGTERM), TimeIsUp()],
    ids=lambda error: type(error).__name__,
)
def test_stage_that_is_interrupted_is_marked_as_killed(toy: Toy, error: BaseException) -> None:
    toy.at_step = fail_at(2, error)
    pipeline = begin()
    with pytest.raises(type(error)):
        run_stage(spec(), pipeline, toy)
    assert [run.info.status for run in children(pipeline)] == ["KILLED"]


@pytest.mark.usefixtures("home")
def test_stage_goes_on_in_the_same_run_under_the_new_parent(toy: Toy) -> None:
    toy.at_step = fail_at(3, RuntimeError("boom"))
    dead = begin("dead")
    with pytest.raises(RuntimeError):
        run_stage(spec(), dead, toy)
    (broken,) = children(dead)
    assert client().get_run(dead.run_id).info.status == "RUNNING"  # it died without a word
    toy.at_step = lambda step: None
    pipeline = begin("next")
    ref = run_stage(spec(), pipeline, toy)
    assert toy.first_steps == [1, 3]
    assert ref.run_id == broken.info.run_id
    assert not ref.reused
    (run,) = children(pipeline)
    assert run.info.run_id == broken.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["quartet.resumed"] == "true"
    assert children(dead) == []
    assert client().get_run(dead.run_id).info.status == "KILLED"
    assert client().get_run(pipeline.run_id).info.status == "RUNNING"


@pytest.mark.usefixtures("home")
def test_stage_resumed_leaves_alone_a_parent_that_lives_here_or_elsewhere(toy: Toy) -> None:
    toy.at_step = fail_at(2, RuntimeError("no network"))
    here, elsewhere = begin("here"), begin("elsewhere")
    Tracker(load_settings()).log(elsewhere.run_id, tags={"quartet.host": "beta"})
    with announced(load_settings(), here.run_id, ""):
        for pipeline in (here, elsewhere, begin("next")):  # each before the other tries again
            with pytest.raises(RuntimeError):
                run_stage(spec(), pipeline, toy)
        for parent in (here, elsewhere):
            assert client().get_run(parent.run_id).info.status == "RUNNING"


@pytest.mark.usefixtures("home")
def test_stage_resumed_leaves_alone_the_end_of_a_parent_that_had_one(toy: Toy) -> None:
    toy.at_step = fail_at(2, RuntimeError("boom"))
    failed = begin("failed")
    with pytest.raises(RuntimeError):
        run_stage(spec(), failed, toy)
    client().set_terminated(failed.run_id, "FAILED")
    toy.at_step = lambda step: None
    run_stage(spec(), begin("next"), toy)
    assert client().get_run(failed.run_id).info.status == "FAILED"


@pytest.mark.usefixtures("home")
def test_stage_starts_a_new_run_when_the_broken_one_was_deleted(toy: Toy) -> None:
    toy.at_step = fail_at(2, RuntimeError("boom"))
    dead = begin("dead")
    with pytest.raises(RuntimeError):
        run_stage(spec(), dead, toy)
    (broken,) = children(dead)
    client().delete_run(broken.info.run_id)
    toy.at_step = lambda step: None
    pipeline = begin("next")
    ref = run_stage(spec(), pipeline, toy)
    assert ref.run_id != broken.info.run_id
    assert [run.info.run_id for run in children(pipeline)] == [ref.run_id]


@pytest.mark.usefixtures("home")
def test_history_has_each_step_once_after_a_resumption(toy: Toy) -> None:
    toy.at_step = fail_at(3, RuntimeError("boom"))  # step 3 is logged, but in no checkpoint
    with pytest.raises(RuntimeError):
        run_stage(spec(), begin(), toy)
    (partial,) = (load_settings().store / "toy").glob("*.partial")
    with (partial / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "met')  # a kill in the middle of a line
    toy.at_step = lambda step: None
    toy.loss = 9.0
    ref = run_stage(spec(), begin(), toy)
    # steps 1 and 2 of the first attempt, step 3 of the second: 9 / 3
    assert read_history(folder_of(ref)) == {"toy/loss": [(1, 1.0), (2, 0.5), (3, 3.0)]}


def test_history_is_in_the_order_of_steps_and_empty_without_a_file(tmp_path: Path) -> None:
    assert read_history(tmp_path) == {}
    lines = ['{"step": 2, "metrics": {"a": 1}}', '{"step": 1, "metrics": {"a": 3, "b": 4}}', '{"st']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_history(tmp_path) == {"a": [(1, 3), (2, 1)], "b": [(1, 4)]}


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_stage_damaged_is_an_error_and_never_computed_again_in_silence(toy: Toy) -> None:
    ref = run_stage(spec(), begin(), toy)
    weights = folder_of(ref) / "model" / "weights.bin"
    weights.write_bytes(b"\x01\x03")
    with pytest.raises(StoreError, match=r"weights\.bin is damaged"):
        run_stage(spec(), begin(), toy)
    assert toy.calls == 1
    assert weights.read_bytes() == b"\x01\x03"


@pytest.mark.usefixtures("home")
def test_stage_with_a_damaged_input_is_an_error(toy: Toy) -> None:
    pipeline = begin()
    base = run_stage(spec("base"), pipeline, toy)
    (folder_of(base) / "model" / "weights.bin").unlink()
    with pytest.raises(StoreError, match=r"weights\.bin is missing"):
        run_stage(spec("sft", base=base), pipeline, toy)
    assert toy.calls == 1


@pytest.mark.usefixtures("home")
def test_stage_is_fetched_from_mlflow_when_the_store_lacks_it(toy: Toy) -> None:
    ref = run_stage(spec(), begin(), toy)
    before = {p.name: p.read_bytes() for p in folder_of(ref).rglob("*") if p.is_file()}
    shutil.rmtree(load_settings().store)
    again = run_stage(spec(), begin(), toy)
    assert toy.calls == 1
    assert again.reused
    assert (again.digest, again.run_id, again.metrics) == (ref.digest, ref.run_id, ref.metrics)
    assert {p.name: p.read_bytes() for p in folder_of(ref).rglob("*") if p.is_file()} == before
    names = {path.name for path in folder_of(ref).parent.iterdir()}
    assert names == {ref.digest, f"{ref.digest}.lock"}


@pytest.mark.usefixtures("home")
def test_stage_damaged_in_mlflow_is_an_error_that_names_the_run(toy: Toy) -> None:
    ref = run_stage(spec(), begin(), toy)
    shutil.rmtree(load_settings().store)
    (copy,) = load_settings().root.glob("mlflow-artifacts/**/weights.bin")
    copy.write_bytes(b"\x01\x03")
    with pytest.raises(StoreError, match="damaged") as raised:
        run_stage(spec(), begin(), toy)
    assert ref.run_id in str(raised.value)
    assert toy.calls == 1
    assert not folder_of(ref).exists()
    client().delete_run(ref.run_id)  # the remedy it names
    assert not run_stage(spec(), begin(), toy).reused
    assert toy.calls == 2


# --- MLflow away --------------------------------------------------------------------------------

CALLS = (
    "create_run",
    "get_run",
    "get_experiment_by_name",
    "list_artifacts",
    "log_artifacts",
    "log_batch",
    "log_table",
    "search_runs",
    "set_terminated",
    "update_run",
)


@contextlib.contextmanager
def outage(error: Exception) -> Iterator[None]:
    """Every call of MLflow's client fails."""

    def fail(*_: object, **__: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(MlflowClient, name, fail)
        yield


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "error", [MlflowException("down"), ConnectionError("down"), ValueError("no JSON")]
)
def test_stage_keeps_its_result_when_mlflow_goes_away_in_the_middle(
    toy: Toy, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = begin()
    with contextlib.ExitStack() as stack:
        toy.at_step = lambda step: stack.enter_context(outage(error)) if step == 2 else None
        ref = run_stage(spec(), pipeline, toy)
    assert ref.metrics == {"toy/final": 42.0}
    assert Store(load_settings().store).find("toy", ref.digest) is not None
    assert "MLflow failed at the result of toy" in caplog.text
    assert run_stage(spec(), begin(), toy).reused
    assert toy.calls == 1


@pytest.mark.usefixtures("home")
def test_stage_computes_and_reuses_while_mlflow_is_away(toy: Toy) -> None:
    pipeline = begin()
    with outage(MlflowException("down")):
        made = run_stage(spec(), pipeline, toy)
        again = run_stage(spec(), pipeline, toy)
    assert made.run_id == ""
    assert again.reused
    assert toy.calls == 1
    below = run_stage(spec("sft", base=made), pipeline, toy)  # its maker has no run to name
    assert client().get_run(below.run_id).data.tags["input.base"] == f"toy/{made.digest}"


@pytest.mark.usefixtures("home")
def test_stage_resumed_during_an_outage_keeps_the_run_it_had(toy: Toy) -> None:
    toy.at_step = fail_at(3, RuntimeError("boom"))
    with pytest.raises(RuntimeError):
        run_stage(spec(), begin(), toy)
    (broken,) = (load_settings().store / "toy").glob("*.partial/RUN_ID")
    run_id = broken.read_text()
    toy.at_step = lambda step: None
    with outage(MlflowException("down")):
        ref = run_stage(spec(), begin_nowhere(), toy)
    assert ref.run_id == run_id


@pytest.mark.usefixtures("home")
def test_stage_goes_on_when_a_power_cut_tore_the_name_of_its_run(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    toy.at_step = fail_at(3, RuntimeError("boom"))
    with pytest.raises(RuntimeError):
        run_stage(spec(), begin(), toy)
    (note,) = (load_settings().store / "toy").glob("*.partial/RUN_ID")
    note.write_bytes(b"\0" * 32)
    toy.at_step = lambda step: None
    with outage(MlflowException("down")):
        ref = run_stage(spec(), begin_nowhere(), toy)
    assert ref.run_id == ""  # the torn name is nowhere
    assert "RUN_ID names no run and is left out" in caplog.text
    assert toy.first_steps == [1, 3]
    assert any("recorded in a new MLflow run" in sentence for sentence in sync(load_settings()))


@pytest.mark.usefixtures("home")
def test_stage_writes_the_name_of_its_run_whole(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def write(path: Path, text: str) -> None:
        written.append(path.name)
        write_whole(path, text)

    monkeypatch.setattr(record, "write_whole", write)
    run_stage(spec(), begin(), toy)
    assert written == ["RUN_ID"]


def begin_nowhere() -> PipelineRun:
    return PipelineRun(name="pipe", preset="toy", seed=0, run_id="")


@pytest.mark.usefixtures("home")
def test_stage_error_is_its_own_when_mlflow_is_away_too(toy: Toy) -> None:
    pipeline = begin()
    toy.at_step = fail_at(1, DataError("empty file"))
    with outage(MlflowException("down")), pytest.raises(DataError, match="empty file"):
        run_stage(spec(), pipeline, toy)


# --- full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A home folder on a disk of 8 MiB."""
    saved = (home / "mlflow.db").read_bytes()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "quartet-test", str(home)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        (home / "mlflow.db").write_bytes(saved)
        yield home
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


def test_stage_on_a_full_disk_says_so_and_loses_nothing(small_disk: Path, toy: Toy) -> None:
    pipeline = begin()
    earlier = run_stage(spec("base"), pipeline, toy)

    def fill(work: Workspace) -> Mapping[str, float]:
        (work.checkpoints / "kept").write_text("kept")
        (work.out / "big.bin").write_bytes(b"x" * 9 * MIB)
        return {}

    with pytest.raises(StoreError, match="no space left on the disk") as raised:
        run_stage(spec("big"), pipeline, fill)
    assert str(small_disk / "store") in str(raised.value)
    assert "MiB were free" in str(raised.value)
    assert "free some space and run again" in str(raised.value)
    assert Store(load_settings().store).find("base", earlier.digest) is not None
    assert run_stage(spec("base"), pipeline, toy).reused
    (kept,) = small_disk.glob("store/big/*.partial/checkpoints/kept")
    assert kept.read_text() == "kept"
    assert not list(small_disk.glob("store/big/*.writing"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    ref = run_stage(spec("big"), pipeline, fill)
    assert (folder_of(ref) / "big.bin").stat().st_size == 9 * MIB


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("error", "free", "wanted"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 500 * MIB, StoreError),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 500 * MIB, StoreError),
        (RuntimeError("PytorchStreamWriter failed writing file"), 2 * MIB, StoreError),
        (RuntimeError("PytorchStreamWriter failed writing file"), 500 * MIB, RuntimeError),
        (DataError("row 3 has no prompt"), 2 * MIB, DataError),
    ],
)
def test_stage_knows_a_full_disk_in_whatever_words_it_is_put(
    toy: Toy,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    free: int,
    wanted: type[Exception],
) -> None:
    class Usage:
        pass

    usage: Any = Usage()
    usage.free = free
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda path: usage)
    toy.at_step = fail_at(2, error)
    with pytest.raises(wanted) as raised:
        run_stage(spec(), begin(), toy)
    if wanted is StoreError:
        assert f"{free // MIB} MiB were free" in str(raised.value)
        assert str(error) in str(raised.value)
        assert raised.value.__cause__ is error


@pytest.mark.usefixtures("home")
def test_stage_says_so_when_the_disk_is_full_before_it_begins(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "partial", full)
    with pytest.raises(StoreError, match="no space left on the disk"):
        run_stage(spec(), begin(), toy)
    assert toy.calls == 0
