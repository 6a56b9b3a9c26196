"""The only Prefect artifacts: cards on the page of a flow run, each of them there once."""

import logging
from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.context import FlowRunContext, TaskRunContext


def try_to_show(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call what may fail: a server that cannot show something is no reason to stop."""
    try:
        return call(*given, **named)
    except Exception as error:  # any failure of a remote service must leave a stage alone
        logging.getLogger(__name__).warning("Prefect does not take what to show: %s", error)
        return None


class Card:
    """An artifact on the page of a flow run, one for each key: a retry renews what it finds.

    Made inside a task it stands with the task's, else with those of the flow run, which come first.
    """

    def __init__(self, key: str, kind: Literal["markdown", "progress"]) -> None:
        self._key, self._kind = key, kind
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        self._task_run = task.task_run.id if task else None
        self._flow_run = flow.flow_run.id if flow and flow.flow_run else None
        if task is not None:
            self._flow_run = task.task_run.flow_run_id
        self._id: UUID | None = None

    def show(self, data: str | float, description: str) -> None:
        """Make or renew it."""
        if self._flow_run is not None:
            try_to_show(self._show, data=data, description=description)

    def remove(self) -> None:
        """Take it off the page."""
        if self._flow_run is not None:
            try_to_show(self._remove)

    def address(self) -> str:
        """Its page, as a link on other pages of Prefect's server; empty where it is not there."""
        if self._flow_run is not None and self._id is None:
            self._id = try_to_show(self._find)
        return f"/artifacts/artifact/{self._id}" if self._id else ""

    def _show(self, data: str | float, description: str) -> None:
        self._id = self._id or self._find()
        with get_client(sync_client=True) as client:
            if self._id is not None:
                client.update_artifact(self._id, ArtifactUpdate(data=data, description=description))
                return
            made = ArtifactCreate(
                key=self._key, type=self._kind, data=data, description=description,
                flow_run_id=self._flow_run, task_run_id=self._task_run,
            )  # fmt: skip
            self._id = client.create_artifact(made).id

    def _remove(self) -> None:
        found, self._id = self._id or self._find(), None
        if found is not None:
            with get_client(sync_client=True) as client:
                client.delete_artifact(found)

    def _find(self) -> UUID | None:
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[self._flow_run]),
            key=ArtifactFilterKey(any_=[self._key]),
        )
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(artifact_filter=wanted, limit=1)
        return found[0].id if found else None
