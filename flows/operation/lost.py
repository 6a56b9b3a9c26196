"""Runs whose machine is gone are ended: a host that is off or cut off can tell no server.

Every run sends Prefect a heartbeat each half minute. Where one stays away for a minute, the
automation *End a run whose host is silent* starts this flow on any worker that lives. By then the
run may be suspended, when no process sends heartbeats, or have been resumed a moment ago.
"""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.exceptions import ObjectNotFound

from flows.lifecycle import conclude_sentence, concluding
from tasks.run.reporting import run_logger
from tasks.settings import load_settings
from tasks.upkeep.reconcile import end_lost_run

LOST = "end-lost-run"
HEARTBEAT = "prefect.flow-run.heartbeat"
SILENT_SECONDS = 60.0
LOOK_BACK = timedelta(days=7)
"""Prefect keeps heartbeats for so long."""


@flow(name=LOST, persist_result=False)
@concluding(conclude_sentence)
def end_lost_run_flow(flow_run: str) -> str:
    """End a run in Prefect and MLflow if its host gives no sign of life any more.

    Args:
        flow_run: Prefect's id of it, or its name among the resources of events.
    """
    run_id = UUID(flow_run.removeprefix("prefect.flow-run."))
    said = _judge(run_id)
    run_logger().info("run %s: %s", run_id, said)
    return said


def _judge(run_id: UUID) -> str:
    heard = _last_heartbeat(run_id)
    if heard is None:
        return "it never sent a heartbeat, so nothing tells whether it lives: left alone"
    state = _state(run_id)
    if state is None or state.is_scheduled() or state.is_pending() or state.is_paused():
        return "no process works on it: left alone"
    if state.is_running() and (began := state.timestamp.timestamp()) > heard:
        # It was resumed or tried again, and nobody asks a second time before it has been heard of.
        time.sleep(max(0.0, began + SILENT_SECONDS - time.time()))
        heard = max(began, _last_heartbeat(run_id) or 0.0)
    silent = time.time() - heard
    if silent < SILENT_SECONDS:
        return f"heard of {silent:.0f} s ago: it goes on"
    return end_lost_run(load_settings(), run_id, silent) or "it has ended"


def _state(run_id: UUID) -> State | None:
    """A run's state in Prefect; None if it was deleted."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(run_id).state
        except ObjectNotFound:
            return None


def _last_heartbeat(run_id: UUID) -> float | None:
    """When a run gave its last sign of life, in seconds since 1970; None if it never did."""
    wanted = EventFilter(
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
        occurred=EventOccurredFilter(since=datetime.now(UTC) - LOOK_BACK),
    )
    with get_client(sync_client=True) as client:
        found = client.request(
            "POST", "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 1}
        ).json()["events"]
    return datetime.fromisoformat(found[0]["occurred"]).timestamp() if found else None
