"""The MLflow parent of a pipeline run ends as the pipeline did, whatever MLflow does."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from prefect.exceptions import Pause

from models.errors import DataError, QuartetError
from tasks.run.pipeline import open_pipeline
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import read_notes
from tasks.tracking.recording import ABOUT, NOTE, REPORT, About, record_page

ARGUMENTS = {
    "name": "quickstart-1",
    "preset": "quickstart",
    "seed": 3,
    "parameters": {"seed": 3, "ppo": {"kl_coef": 0.05}},
}


def end(run_id: str) -> str | None:
    return Tracker(load_settings()).status(run_id)


@pytest.mark.usefixtures("home")
def test_open_pipeline_records_parameters_versions_and_the_end() -> None:
    with open_pipeline(**ARGUMENTS) as pipeline:
        assert end(pipeline.run_id) == "RUNNING"
    assert (pipeline.name, pipeline.preset, pipeline.seed) == ("quickstart-1", "quickstart", 3)
    run = Tracker(load_settings()).client.get_run(pipeline.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "quickstart-1"
    assert run.data.params == {"seed": "3", "ppo.kl_coef": "0.05"}
    assert run.data.tags["quartet.kind"] == "pipeline"
    assert "quartet.changed" not in run.data.tags
    assert run.data.tags["version.torch"]


def test_note_of_a_person_is_kept_above_the_report(home: Path) -> None:
    page = home / "page"
    page.mkdir()
    about = About(title="", pictures=[], on_pipeline=True, tags={})
    (page / ABOUT).write_text(about.model_dump_json())
    (page / REPORT).write_text("## Verdict")
    tracker = Tracker(load_settings())
    with open_pipeline(**ARGUMENTS, note="why <this>") as pipeline:
        tags = tracker.tags(pipeline.run_id)
        assert (tags[NOTE], tags["mlflow.note.content"]) == ("why <this>", "why &lt;this&gt;")
        record_page(tracker, page, parent=pipeline.run_id)
    tags = tracker.tags(pipeline.run_id)
    assert tags["mlflow.note.content"] == "why &lt;this&gt;\n\n## Verdict"


@pytest.mark.usefixtures("home")
def test_open_pipeline_says_what_differs_from_the_preset_and_what_kind_of_flow_it_is() -> None:
    changed = {"seed": 3, "ppo.kl_coef": 0.05}
    with open_pipeline(**ARGUMENTS, kind="promote", changed=changed) as pipeline:
        pass
    tags = Tracker(load_settings()).tags(pipeline.run_id)
    assert tags["quartet.kind"] == "promote"
    assert tags["quartet.changed"] == "seed=3, ppo.kl_coef=0.05"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("error", "status"), [(DataError("bad"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_open_pipeline_marks_how_it_ended(error: BaseException, status: str) -> None:
    ids: list[str] = []

    def run() -> None:
        with open_pipeline(**ARGUMENTS) as pipeline:
            ids.append(pipeline.run_id)
            raise error

    with pytest.raises(type(error)):
        run()
    assert end(ids[0]) == status


@pytest.fixture
def lose_mlflow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def down(*_: object, **__: object) -> None:
        raise MlflowException("down")

    return lambda: monkeypatch.setattr(MlflowClient, "set_terminated", down)


@pytest.mark.usefixtures("home")
def test_open_pipeline_passes_the_real_error_on_when_mlflow_is_away(
    lose_mlflow: Callable[[], None],
) -> None:
    def run() -> None:
        with open_pipeline(**ARGUMENTS):
            lose_mlflow()
            raise DataError("the real one")

    with pytest.raises(DataError, match="the real one"):
        run()


@pytest.mark.usefixtures("home")
def test_open_pipeline_does_not_fail_a_finished_pipeline_when_mlflow_is_away(
    lose_mlflow: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with open_pipeline(**ARGUMENTS):
        lose_mlflow()
    assert "the end of quickstart-1" in caplog.text


def test_open_pipeline_refuses_to_start_unrecorded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:9")  # discard: nobody listens
    with pytest.raises(QuartetError, match="does not answer"), open_pipeline(**ARGUMENTS):
        raise AssertionError("entered")


# --- one flow run, one parent -------------------------------------------------------------------


def attempt(flow_run_id: str, error: BaseException | None = None) -> str:
    ids: list[str] = []
    with (
        contextlib.suppress(BaseException),
        open_pipeline(**ARGUMENTS, flow_run_id=flow_run_id) as pipeline,
    ):
        ids.append(pipeline.run_id)
        assert pipeline.flow_run_id == flow_run_id
        assert end(pipeline.run_id) == "RUNNING"
        if error is not None:
            raise error
    return ids[0]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("error", "status"),
    [(Pause("suspended"), "SCHEDULED"), (RuntimeError("boom"), "FAILED"), (SystemExit(), "KILLED")],
)
def test_open_pipeline_goes_on_in_the_parent_of_the_same_flow_run(
    error: BaseException, status: str
) -> None:
    first = attempt("flow-1", error)
    assert end(first) == status
    assert attempt("flow-1") == first
    run = Tracker(load_settings()).client.get_run(first)
    assert run.info.status == "FINISHED"
    assert run.data.tags["prefect.flow_run_id"] == "flow-1"
    assert run.data.tags["quartet.resumed"] == "true"


@pytest.mark.usefixtures("home")
def test_open_pipeline_starts_a_parent_of_its_own_for_another_flow_run() -> None:
    parents = [attempt("flow-1"), attempt("flow-2"), attempt(""), attempt("")]
    assert len(set(parents)) == 4
    tags = Tracker(load_settings()).tags(parents[2])
    assert "prefect.flow_run_id" not in tags


@pytest.mark.usefixtures("home")
def test_open_pipeline_starts_anew_when_the_parent_was_deleted() -> None:
    first = attempt("flow-1", RuntimeError("boom"))
    Tracker(load_settings()).client.delete_run(first)
    assert attempt("flow-1") != first


@pytest.mark.usefixtures("home")
def test_open_pipeline_notes_an_end_that_mlflow_did_not_take_until_it_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracker, "finish", fail)
        first = attempt("flow-1", RuntimeError("boom"))
    assert "quartet sync" in caplog.text
    (note,) = read_notes(load_settings().root)
    assert (note.run_id, note.status) == (first, "FAILED")
    attempt("flow-1")
    assert read_notes(load_settings().root) == []


def fail(*_: object, **__: object) -> None:
    raise MlflowException("down")


@pytest.mark.usefixtures("home")
def test_a_signal_leaves_no_run_of_a_stage_running() -> None:
    ids: list[str] = []

    def run() -> None:
        with open_pipeline(**ARGUMENTS) as pipeline:
            tracker = Tracker(load_settings())
            below = {"mlflow.parentRunId": pipeline.run_id}
            ids.append(tracker.start_run("sft", parameters={}, tags=below))
            raise SystemExit(143)  # before the stage guards its run

    with pytest.raises(SystemExit):
        run()
    assert end(ids[0]) == "KILLED"


@pytest.mark.usefixtures("home")
def test_a_signal_while_the_parent_is_opened_leaves_none_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = Tracker.start_run
    ids: list[str] = []

    def struck(*given: Any, **named: Any) -> str:
        ids.append(start(*given, **named))
        raise SystemExit(143)

    monkeypatch.setattr(Tracker, "start_run", struck)
    with pytest.raises(SystemExit), open_pipeline(**ARGUMENTS, flow_run_id="flow-1"):
        pass
    assert end(ids[0]) == "KILLED"
