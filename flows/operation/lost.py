"""Runs whose machine is gone are ended: a host that is off or cut off can tell no server.

Every run sends Prefect a heartbeat each half minute. Where one stays away for a minute, the
automation *End a run whose host is silent* starts this flow on any worker that lives.
"""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)

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
    heard = _last_heartbeat(run_id)
    silent = time.time() - (heard or 0.0)
    if heard is None:
        said = "it never sent a heartbeat, so nothing tells whether it lives: left alone"
    elif silent < SILENT_SECONDS:
        said = f"heard of {silent:.0f} s ago: it goes on"
    else:
        said = end_lost_run(load_settings(), run_id, silent) or "it has ended"
    run_logger().info("run %s: %s", run_id, said)
    return said


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
