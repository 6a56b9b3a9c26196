"""What a killed pipeline leaves as running is set right, on a real Prefect server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Completed, Running, State

from tasks.machine.liveness import Note, announced
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.upkeep.reconcile import end_lost_run, reconcile
from tests.ports import free_port

EARLY = """
import os, signal
from prefect import flow, tags
from prefect.context import FlowRunContext
from tasks.machine.liveness import command_announced
from tasks.settings import load_settings
from tasks.tracking.client import Tracker

@flow(flow_run_name="red-fox")
def pipeline():
    flow_run_id = str(FlowRunContext.get().flow_run.id)
    named = {"prefect.flow_run_id": flow_run_id}
    parent = Tracker(load_settings()).start_run("red-fox", parameters={}, tags=named)
    print(parent, flow_run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # before it could note the ids

with command_announced(load_settings()) as tag, tags(tag):
    pipeline()
"""

KILLED = """
import os, signal, sys, time
from prefect import flow, task
from prefect.context import FlowRunContext
from tasks.machine.liveness import announced
from tasks.settings import load_settings
from tasks.tracking.client import Tracker

@task
def learn():
    time.sleep(float(sys.argv[1]))  # until the server has written down that it runs
    os.kill(os.getpid(), signal.SIGKILL)

@flow(flow_run_name="brown-fox")
def pipeline():
    tracker = Tracker(load_settings())
    parent = tracker.start_run("brown-fox", parameters={}, tags={})
    for name in "done", "cut-off":
        child = tracker.start_run(name, parameters={}, tags={"mlflow.parentRunId": parent})
        if name == "done":
            tracker.finish(child, "FINISHED")
    flow_run_id = str(FlowRunContext.get().flow_run.id)
    with announced(load_settings(), parent, flow_run_id):
        print(parent, flow_run_id, flush=True)
        learn()

pipeline()
"""


class Left:
    """A run that was killed."""

    def __init__(self, mlflow_run_id: str, flow_run_id: str) -> None:
        self.mlflow_run_id, self.flow_run_id = mlflow_run_id, UUID(flow_run_id)

    @property
    def note(self) -> Path:
        return load_settings().root / "runs" / f"{self.mlflow_run_id}.json"

    def flow_state(self) -> StateType | None:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(self.flow_run_id).state
        return state.type if state else None

    def task_states(self) -> list[str]:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs()
        return [str(r.state_name) for r in runs if r.flow_run_id == self.flow_run_id]

    def in_mlflow(self) -> dict[str, str]:
        tracker = Tracker(load_settings())
        runs = tracker.client.search_runs([tracker.experiment_id])
        return {run.info.run_name: run.info.status for run in runs}

    def set_state(self, state: State) -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(self.flow_run_id, state, force=True)


@pytest.fixture
def kill(home: Path, prefect_server: str) -> Callable[..., Left]:
    """Run a pipeline that is killed in the middle of its stage."""

    def run(seconds: float = 0.0, program: str = KILLED) -> Left:
        done = subprocess.run(
            [sys.executable, "-c", program, str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PREFECT_API_URL": prefect_server},
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL
        return Left(*done.stdout.split())

    return run


@pytest.fixture
def left(kill: Callable[..., Left]) -> Left:
    return kill()


def test_a_killed_run_is_set_right_in_both_places(kill: Callable[..., Left]) -> None:
    left = kill(5.0)
    assert left.flow_state() == StateType.RUNNING
    assert left.task_states() == ["Running"]
    assert left.in_mlflow() == {"brown-fox": "RUNNING", "done": "FINISHED", "cut-off": "RUNNING"}
    (sentence,) = reconcile(load_settings())
    assert sentence == (
        "run brown-fox was killed: flow run brown-fox set to Crashed; 1 task runs set to Crashed; "
        "2 MLflow runs set to KILLED"
    )
    assert left.flow_state() == StateType.CRASHED
    assert left.task_states() == ["Crashed"]
    assert left.in_mlflow() == {"brown-fox": "KILLED", "done": "FINISHED", "cut-off": "KILLED"}
    assert reconcile(load_settings()) == []
    assert list(left.note.parent.iterdir()) == []


def test_a_run_that_was_killed_before_its_note_is_found_by_its_command(
    kill: Callable[..., Left],
) -> None:
    left = kill(program=EARLY)
    assert not left.note.exists()
    assert left.flow_state() == StateType.RUNNING
    (sentence,) = reconcile(load_settings())
    assert sentence == (
        "a command was killed: flow run red-fox set to Crashed; 1 MLflow runs set to KILLED"
    )
    assert left.flow_state() == StateType.CRASHED
    assert left.in_mlflow() == {"red-fox": "KILLED"}
    assert list((load_settings().root / "commands").iterdir()) == []


def test_a_run_that_was_being_cancelled_is_cancelled(left: Left) -> None:
    left.set_state(Cancelling())
    reconcile(load_settings())
    assert left.flow_state() == StateType.CANCELLED


def test_a_flow_run_that_has_ended_keeps_its_state(left: Left) -> None:
    left.set_state(Completed())
    reconcile(load_settings())
    assert left.flow_state() == StateType.COMPLETED
    assert left.in_mlflow()["brown-fox"] == "KILLED"


def test_a_flow_run_that_is_tried_again_is_left_alone(left: Left) -> None:
    left.set_state(Running())  # by the process of the next attempt, perhaps of another machine
    assert reconcile(load_settings()) == []
    assert left.flow_state() == StateType.RUNNING
    assert left.in_mlflow() == {"brown-fox": "RUNNING", "done": "FINISHED", "cut-off": "RUNNING"}
    assert not left.note.exists()


def test_a_living_run_is_left_alone(left: Left) -> None:
    with announced(load_settings(), left.mlflow_run_id, str(left.flow_run_id)):
        assert reconcile(load_settings()) == []
        assert left.note.exists()
    assert left.flow_state() == StateType.RUNNING


def test_runs_of_another_machine_are_left_alone(left: Left) -> None:
    content = json.loads(left.note.read_text())
    left.note.write_text(json.dumps(content | {"host": "elsewhere"}))
    assert reconcile(load_settings()) == []
    assert left.note.exists()
    assert left.in_mlflow()["brown-fox"] == "RUNNING"


def test_a_torn_note_is_understood_by_its_name(left: Left) -> None:
    Tracker(load_settings()).log(
        left.mlflow_run_id, tags={"prefect.flow_run_id": str(left.flow_run_id)}
    )
    left.note.write_text('{"flow_run_')
    reconcile(load_settings())
    assert left.flow_state() == StateType.CRASHED
    assert left.in_mlflow()["cut-off"] == "KILLED"


@pytest.mark.usefixtures("home", "prefect_server")
def test_a_note_that_nobody_knows_is_removed() -> None:
    note = Note(load_settings().root / "runs" / f"{'0' * 32}.json")
    assert note.take()
    note.write({"flow_run_id": "6a1fd3a5-3d0f-4fb2-9e6e-111111111111"})
    note.let_go(keep=True)
    assert reconcile(load_settings()) == []
    assert not note.path.exists()


def test_what_prefect_could_not_be_told_is_tried_again(left: Left) -> None:
    address = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: address}):
        (sentence,) = reconcile(load_settings())
    assert "Prefect could not be updated" in sentence
    assert "2 MLflow runs set to KILLED" in sentence
    assert left.flow_state() == StateType.RUNNING
    reconcile(load_settings())
    assert left.flow_state() == StateType.CRASHED
    assert not left.note.exists()


def test_what_mlflow_could_not_be_told_is_tried_again(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:9")
        (sentence,) = reconcile(load_settings())
    assert "MLflow could not be updated" in sentence
    assert left.flow_state() == StateType.CRASHED
    assert left.in_mlflow()["brown-fox"] == "RUNNING"
    reconcile(load_settings())
    assert left.in_mlflow()["brown-fox"] == "KILLED"


def test_a_run_whose_host_is_silent_ends_in_both_places_and_names_the_host(left: Left) -> None:
    tags = {"prefect.flow_run_id": str(left.flow_run_id), "quartet.host": "alpha"}
    Tracker(load_settings()).log(left.mlflow_run_id, tags=tags)
    left.note.unlink()  # that machine's
    sentence = end_lost_run(load_settings(), left.flow_run_id, 72.4)
    assert sentence.startswith("host alpha has given no sign of life for 72 s: it is off, cut off")
    assert sentence.endswith("2 MLflow runs set to KILLED")
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(left.flow_run_id).state
    assert state is not None
    assert state.type == StateType.CRASHED
    assert state.message is not None
    assert sentence.startswith(state.message)
    assert left.in_mlflow() == {"brown-fox": "KILLED", "done": "FINISHED", "cut-off": "KILLED"}
    assert end_lost_run(load_settings(), left.flow_run_id, 99.0) == "", "it has ended"


def test_a_silent_run_without_a_record_of_its_host_ends_too(left: Left) -> None:
    left.note.unlink()
    assert end_lost_run(load_settings(), left.flow_run_id, 61.0).startswith("its host has given no")
    assert left.flow_state() == StateType.CRASHED
