"""Runs of lost hosts: what was never heard of is left alone."""

from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from flows.operation.lost import end_lost_run_flow


def test_run_that_never_sent_a_heartbeat_is_left_alone(home: Path, prefect_server: str) -> None:
    for flow_run in (str(uuid4()), f"prefect.flow-run.{uuid4()}"):
        state = cast(Any, end_lost_run_flow.fn(flow_run))
        assert state.message.startswith("it never sent a heartbeat")
