"""Recording in MLflow, against a real local database; an outage costs no metric and no result."""

import http.server
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from models.errors import QuartetError, StoreError
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.metrics import Point
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import every, tagged
from tasks.tracking.recording import flatten, log_missing
from tasks.tracking.sync import sync
from tests.ports import free_port


@pytest.fixture
def tracker(home: Path) -> Tracker:
    return Tracker(load_settings())


def start(tracker: Tracker, **tags: str) -> str:
    return tracker.start_run("a run", parameters={}, tags=tags)


def test_tracker_records_a_run_with_more_parameters_than_one_request_takes(
    tracker: Tracker,
) -> None:
    parameters = {f"group.p{index}": str(index) for index in range(250)}
    run_id = tracker.start_run("mine", parameters=parameters, tags={"quartet.kind": "stage"})
    run = tracker.client.get_run(run_id)
    assert run.data.params == parameters
    assert run.data.tags["quartet.kind"] == "stage"
    assert (run.info.run_name, run.info.status) == ("mine", "RUNNING")


def test_tracker_shortens_a_parameter_that_mlflow_would_refuse(tracker: Tracker) -> None:
    run_id = tracker.start_run("mine", parameters={"long": "x" * 7000}, tags={})
    assert tracker.client.get_run(run_id).data.params == {"long": "x" * 6000}


def test_tracker_closes_a_run_whose_parameters_mlflow_refuses(tracker: Tracker) -> None:
    with pytest.raises(MlflowException, match="Names may only contain"):
        tracker.start_run("mine", parameters={"a{b}": "1"}, tags={})
    (run,) = tracker.runs()
    assert (run.info.run_name, run.info.status) == ("mine", "FAILED")


def test_tracker_leaves_a_note_of_a_run_that_mlflow_does_not_let_it_close(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object, **__: object) -> None:
        raise MlflowException("no route to host")

    with monkeypatch.context() as patch:
        for name in ("log_batch", "set_terminated"):
            patch.setattr(tracker.client, name, down)
        with pytest.raises(MlflowException, match="no route"):
            tracker.start_run("mine", parameters={"a": "1"}, tags={})
    (run,) = tracker.runs()
    assert sync(load_settings()) == [f"mine: marked as FAILED in MLflow run {run.info.run_id}"]
    assert tracker.status(run.info.run_id) == "FAILED"


def test_tracker_opens_and_closes_a_run_again(tracker: Tracker) -> None:
    run_id = start(tracker, kept="yes")
    tracker.finish(run_id, "KILLED")
    assert tracker.status(run_id) == "KILLED"
    tracker.reopen_run(run_id, {"quartet.resumed": "true"})
    assert tracker.status(run_id) == "RUNNING"
    assert {"kept": "yes", "quartet.resumed": "true"}.items() <= tracker.tags(run_id).items()
    tracker.finish(run_id, "FINISHED")
    assert tracker.status(run_id) == "FINISHED"


def test_tracker_has_no_status_of_a_run_unknown_or_deleted(tracker: Tracker) -> None:
    run_id = start(tracker)
    tracker.client.delete_run(run_id)
    assert tracker.status(run_id) is None
    assert tracker.status("0" * 32) is None
    assert tracker.status("\0" * 32) is None  # as a power cut leaves it in a file


def test_tracker_status_raises_when_mlflow_does_not_answer(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise MlflowException("no route to host")

    monkeypatch.setattr(tracker.client, "get_run", down)
    with pytest.raises(MlflowException, match="no route"):
        tracker.status("0" * 32)


def test_tracker_finds_the_newest_run_that_published_a_digest(tracker: Tracker) -> None:
    assert tracker.find_published("aa") is None
    first = start(tracker, **{"quartet.published": "aa"})
    assert tracker.find_published("aa") == first
    second = start(tracker, **{"quartet.published": "aa"})
    tracker.client.update_run(first, status="FINISHED")
    start(tracker, **{"quartet.published": "bb"})
    newest = max((first, second), key=lambda run: tracker.client.get_run(run).info.start_time)
    assert tracker.find_published("aa") in {newest, second}
    tracker.client.delete_run(second)
    assert tracker.find_published("aa") == first


def test_tracker_gives_back_a_folder_as_it_was(tracker: Tracker, tmp_path: Path) -> None:
    folder = tmp_path / "result"
    (folder / "model").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "model" / "b.bin").write_bytes(b"\x00\xff")
    run_id = start(tracker)
    tracker.log_folder(run_id, folder)
    into = tmp_path / "into"
    into.mkdir()
    got = tracker.fetch_published(run_id, into)
    assert got.parent == into
    assert (got / "a.txt").read_text() == "a"
    assert (got / "model" / "b.bin").read_bytes() == b"\x00\xff"


def test_tracker_keeps_artifacts_in_the_home_folder(tracker: Tracker, home: Path) -> None:
    folder = home / "some"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    run_id = start(tracker)
    tracker.log_folder(run_id, folder, "plots")
    assert (home / "mlflow-artifacts" / run_id / "artifacts" / "plots" / "a.txt").is_file()


def test_tracker_logs_a_table_that_mlflow_can_load(tracker: Tracker) -> None:
    run_id = start(tracker)
    tracker.log_table(
        run_id, [{"prompt": "Hé?", "score": 1.5}, {"prompt": "B", "score": 2}], "s.json"
    )
    table = tracker.client.load_table(tracker.experiment_id, "s.json", run_ids=[run_id])
    assert list(table["prompt"]) == ["Hé?", "B"]
    assert list(table["score"]) == [1.5, 2.0]
    tracker.log_table(run_id, [], "none.json")  # nothing to show: no file
    assert [file.path for file in tracker.client.list_artifacts(run_id)] == ["s.json"]


def test_tracker_logs_a_table_once(tracker: Tracker) -> None:
    run_id = start(tracker)
    for _ in range(2):  # MLflow itself would append the rows a second time
        tracker.log_table(run_id, [{"prompt": "A"}], "s.json")
    table = tracker.client.load_table(tracker.experiment_id, "s.json", run_ids=[run_id])
    assert list(table["prompt"]) == ["A"]


def test_tracker_logs_only_the_points_that_a_run_lacks(tracker: Tracker) -> None:
    run_id = start(tracker)
    tracker.log_points(run_id, [Point(name="a", value=9.0, step=2, time_ms=1)])
    curves = {"a": [(1, 1.0), (2, 2.0), (3, 3.0)], "b": [(1, 5.0)]}
    assert log_missing(tracker, run_id, curves) == 3
    assert log_missing(tracker, run_id, curves) == 0
    history = tracker.client.get_metric_history(run_id, "a")
    # step 2 arrived before and stays as it is
    assert sorted((m.step, m.value) for m in history) == [(1, 1.0), (2, 9.0), (3, 3.0)]


def test_tracker_finds_runs_by_all_of_their_tags_and_status(tracker: Tracker) -> None:
    one = start(tracker, a="1", b="1")
    start(tracker, a="1", b="2")
    assert tracker.find_tagged({"a": "1", "b": "1"}) == [one]
    assert len(tracker.find_tagged({"a": "1"})) == 2
    tracker.finish(one, "FINISHED")
    assert tracker.find_tagged({"a": "1", "b": "1"}, status="RUNNING") == []


def test_search_gives_every_page_the_newest_first(tracker: Tracker) -> None:
    ids = {start(tracker, a="1") for _ in range(5)}
    query = {"experiment_ids": [tracker.experiment_id], "max_results": 2}
    assert {run.info.run_id for run in every(tracker.client.search_runs, **query)} == ids
    found = list(tracker.runs(tagged({"a": "1"})))
    started = [run.info.start_time for run in found]
    assert {run.info.run_id for run in found} == ids
    assert started == sorted(started, reverse=True)
    assert list(tracker.runs(tagged({"a": "2"}))) == []


def test_tracker_suspends_a_run_without_an_end(tracker: Tracker) -> None:
    run_id = start(tracker)
    tracker.finish(run_id, "SCHEDULED")
    info = tracker.client.get_run(run_id).info
    assert (info.status, info.end_time) == ("SCHEDULED", None)


def test_tracker_tells_a_deleted_run_from_an_unknown_one(tracker: Tracker) -> None:
    run_id = start(tracker)
    assert not tracker.was_deleted(run_id)
    tracker.client.delete_run(run_id)
    assert tracker.was_deleted(run_id)
    assert not tracker.was_deleted("0" * 32)


def test_tracker_uses_the_experiment_of_the_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_EXPERIMENT", "another one")
    first, second = Tracker(load_settings()), Tracker(load_settings())
    assert first.experiment_id == second.experiment_id
    found = first.client.get_experiment(first.experiment_id)
    assert found.name == "another one"
    assert found.artifact_location == (home / "mlflow-artifacts").as_uri()


# --- what can be wrong with the server ----------------------------------------------------------


@contextmanager
def answering(status: int | None) -> Iterator[str]:
    """A server on loopback that answers every request with a status, or with noise."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if status is None:
                self.wfile.write(b"SSH-2.0-something else entirely\r\n\r\n")
            else:
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_tracker_check_says_what_to_do_when_no_server_answers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("QUARTET_TRACKING_URI", address)
    tracker = Tracker(load_settings())  # connects to nothing yet
    with pytest.raises(QuartetError, match="does not answer") as raised:
        tracker.check()
    assert address in str(raised.value)
    assert "QUARTET_TRACKING_URI" in str(raised.value)


@pytest.mark.parametrize("status", [503, None])
def test_tracker_check_says_what_to_do_when_something_else_answers(
    home: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    with answering(status) as address:
        monkeypatch.setenv("QUARTET_TRACKING_URI", address)
        with pytest.raises(QuartetError, match="does not answer"):
            Tracker(load_settings()).check()


def test_tracker_check_says_what_to_do_when_the_experiment_was_deleted(tracker: Tracker) -> None:
    tracker.check()
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(QuartetError, match=r"deleted.*mlflow experiments restore -x \d+"):
        tracker.check()


def test_tracker_check_says_what_mlflow_has_against_an_experiments_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_EXPERIMENT", "x" * 501)  # MLflow takes 500
    with pytest.raises(QuartetError, match="exceeds the maximum length of 500 characters"):
        Tracker(load_settings()).check()


def test_tracker_check_says_what_to_do_when_the_database_is_none(home: Path) -> None:
    (home / "mlflow.db").write_bytes(b"this is no database at all, but long enough " * 50)
    with pytest.raises(QuartetError, match=r"mlflow\.db is damaged; put a copy back, or move"):
        Tracker(load_settings()).check()


# --- what is forgiven ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MlflowException("down"), OSError("down"), KeyError("down")])
def test_tolerated_turns_any_failure_to_record_into_a_warning(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tasks.tracking.client"), tolerated("the end of sft"):
        raise error
    assert "the end of sft" in caplog.text
    assert "down" in caplog.text


@pytest.mark.parametrize("error", [StoreError("damaged"), KeyboardInterrupt()])
def test_tolerated_lets_own_errors_and_signals_through(error: BaseException) -> None:
    with pytest.raises(type(error)), tolerated("the end of sft"):
        raise error


def test_flatten_writes_dotted_names() -> None:
    nested = {"seed": 0, "ppo": {"gamma": 1.0, "on": True, "deep": {"name": "x"}}, "none": {}}
    assert flatten(nested) == {
        "seed": "0",
        "ppo.gamma": "1.0",
        "ppo.on": "True",
        "ppo.deep.name": "x",
    }
