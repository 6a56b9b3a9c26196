"""Runs of lost hosts: only what runs, was heard of once and is silent since is ended."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events import Event, Resource
from prefect.states import Paused, Pending, Running

from flows.operation import lost
from flows.operation.lost import HEARTBEAT, end_lost_run_flow

pytestmark = pytest.mark.usefixtures("home", "prefect_server")


@flow(name="lost-or-not")
def some_flow() -> None:
    """Never called."""


def run_in(state: Any) -> UUID:
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(some_flow)
        client.set_flow_run_state(made.id, state, force=True)
    return made.id


def beat(run_id: UUID, ago: float) -> None:
    """Send the heartbeat of so many seconds ago, and wait until the server tells of it."""
    event = Event(
        event=HEARTBEAT,
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run_id}"}),
        occurred=datetime.now(UTC) - timedelta(seconds=ago),
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
    deadline = time.monotonic() + 30
    while (lost._last_heartbeat(run_id) or 0.0) < event.occurred.timestamp() - 0.01:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def resume(run_id: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Running(), force=True)


def judged(run_id: UUID) -> str:
    return str(cast(Any, end_lost_run_flow.fn(str(run_id))).message)


def state_of(run_id: UUID) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    return state.name if state else ""


def test_run_that_never_sent_a_heartbeat_is_left_alone() -> None:
    for flow_run in (str(uuid4()), f"prefect.flow-run.{uuid4()}"):
        state = cast(Any, end_lost_run_flow.fn(flow_run))
        assert state.message.startswith("it never sent a heartbeat")


@pytest.mark.parametrize(
    "state", [Pending(), Paused(timeout_seconds=100)], ids=lambda one: one.name
)
def test_run_that_waits_sends_no_heartbeats_and_is_left_alone(state: Any) -> None:
    run_id = run_in(state)
    beat(run_id, ago=300.0)
    assert judged(run_id) == "no process works on it: left alone"
    assert state_of(run_id) == state.name


def test_run_that_was_resumed_has_time_to_be_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was silent while it was suspended; that its process dies at once is still found."""
    monkeypatch.setattr(lost, "SILENT_SECONDS", 1.0)
    run_id = run_in(Pending())
    beat(run_id, ago=300.0)
    resume(run_id)
    with monkeypatch.context() as patch:
        heard = iter([lost._last_heartbeat(run_id)])
        patch.setattr(lost, "_last_heartbeat", lambda _: next(heard, time.time() + 60.0))
        assert judged(run_id).endswith("it goes on")
    assert state_of(run_id) == "Running"
    resume(run_id)
    assert re.search(r"host has given no sign of life for \d+ s", judged(run_id))
    assert state_of(run_id) == "Crashed"
