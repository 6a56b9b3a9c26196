"""Runs that a kill left as running are reconciled in Prefect and MLflow.

A killed process can tell neither server that it has ended. Its note (see
`tasks/machine/liveness.py`) stays, with a lock that is free; from it the flow run, its task runs,
the MLflow parent and its children are found. What could not be updated, because a server is down,
is retried the next time.

Of a machine that is off or cut off nobody reads notes: there the run is found by its heartbeats in
Prefect, which have stopped (`flows/operation/lost.py`).
"""

import contextlib
import functools
import logging
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from models.errors import first_line
from tasks.machine.liveness import Note, commands_folder, runs_folder
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.facts import FLOW_RUN_TAG, HOST_TAG, kill_running

logger = logging.getLogger(__name__)

ACTIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
KILLED = "its process was killed; a new run with the same parameters resumes from its checkpoint"


def reconcile(settings: Settings) -> list[str]:
    """Reconcile the runs that killed processes of this machine left behind.

    Returns:
        A sentence for each run that was reconciled, for people.
    """
    messages = []
    for path in sorted(runs_folder(settings).glob("*.json")):
        messages += _settle(path, functools.partial(_reconcile_run, settings))
    for path in sorted(commands_folder(settings).glob("*.json")):
        messages += _settle(path, functools.partial(_reconcile_command, settings))
    return messages


def end_lost_run(settings: Settings, flow_run_id: UUID, silent: float) -> str:
    """End a run in both servers whose machine gives no sign of life.

    Args:
        silent: Seconds since the last one.

    Returns:
        A sentence for people; empty if the run has ended.
    """
    tracker = Tracker(settings)
    tracker.check()
    parent = next(iter(tracker.find_tagged({FLOW_RUN_TAG: str(flow_run_id)})), "")
    host = tracker.tags(parent).get(HOST_TAG, "") if parent else ""
    reason = (
        f"{f'host {host}' if host else 'its host'} has given no sign of life for {silent:.0f} s: "
        "it is off, cut off from the servers, or out of memory; retry the run, and it goes on from "
        "what is finished"
    )
    ended = _crash_in_prefect(flow_run_id, time.time(), reason)
    if not ended:
        return ""
    in_mlflow = _kill_in_mlflow(tracker, parent) if parent else ""
    return "; ".join(part for part in (reason, ended, in_mlflow) if part)


def _settle(path: Path, bring: Callable[[Path, dict[str, Any]], tuple[str, bool]]) -> list[str]:
    """Reconcile what a note tells of, unless its process lives or is another machine's."""
    note = Note(path)
    if note.read().get("host", socket.gethostname()) != socket.gethostname() or not note.take():
        return []
    done = False
    try:
        if not path.exists():  # its process has ended by itself meanwhile
            return []
        sentence, done = bring(path, note.read())
        return [sentence] if sentence else []
    finally:
        note.let_go(keep=path.exists() and not done)


def _reconcile_run(settings: Settings, path: Path, content: dict[str, Any]) -> tuple[str, bool]:
    mlflow_run_id, tracker = path.stem, Tracker(settings)
    flow_run_id = str(content.get("flow_run_id", "")) or _flow_run_of(tracker, mlflow_run_id)
    name, in_mlflow, in_prefect, done = mlflow_run_id, "", "", True
    try:
        if flow_run_id:
            found = _crash_in_prefect(UUID(flow_run_id), path.stat().st_mtime)
            if found is None:
                return "", True  # another process has it, perhaps of another machine
            in_prefect = found
    except Exception as error:  # any failure of a remote service
        in_prefect, done = f"Prefect could not be updated ({first_line(error)})", False
    try:
        tracker.check()
        if tracker.status(mlflow_run_id) is not None:
            name = tracker.tags(mlflow_run_id).get("mlflow.runName", mlflow_run_id)
            in_mlflow = _kill_in_mlflow(tracker, mlflow_run_id)
    except Exception as error:  # MLflow passes on errors of several libraries
        in_mlflow, done = f"MLflow could not be updated ({first_line(error)})", False
    parts = "; ".join(part for part in (in_prefect, in_mlflow) if part)
    if not parts:
        return "", True
    later = "" if done else "; it is retried the next time"
    return f"run {name} was killed: {parts}{later}", done


def _flow_run_of(tracker: Tracker, run_id: str) -> str:
    """What a torn note does not tell; empty where MLflow does not answer or does not know it."""
    with contextlib.suppress(Exception):  # it is asked again, and what is wrong is said then
        tracker.check()
        if tracker.status(run_id) is not None:
            return tracker.tags(run_id).get(FLOW_RUN_TAG, "")
    return ""


def _reconcile_command(
    settings: Settings, path: Path, _content: dict[str, Any]
) -> tuple[str, bool]:
    """Reconcile flow runs that a command was killed too early to note by their ids."""
    parts: list[str] = []
    done = True
    try:
        with get_client(sync_client=True) as client:
            tag = FlowRunFilterTags(all_=[path.stem])
            flow_runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tag))
        parts += [_crash_in_prefect(one.id, time.time()) or "" for one in flow_runs]
    except Exception as error:  # any failure of a remote service
        return f"a killed command: Prefect could not be updated ({first_line(error)})", False
    try:
        tracker = Tracker(settings)
        for one in flow_runs:
            parents = tracker.find_tagged({FLOW_RUN_TAG: str(one.id)}, status="RUNNING")
            parts += [_kill_in_mlflow(tracker, parent) for parent in parents]
    except Exception as error:  # MLflow passes on errors of several libraries
        parts, done = [*parts, f"MLflow could not be updated ({first_line(error)})"], False
    said = "; ".join(filter(None, parts))
    return f"a command was killed: {said}" if said else "", done


def _kill_in_mlflow(tracker: Tracker, run_id: str) -> str:
    killed = kill_running(tracker, run_id)
    if tracker.status(run_id) == "RUNNING":
        tracker.finish(run_id, "KILLED")
        killed += 1
    return f"{killed} MLflow runs set to KILLED" if killed else ""


def _crash_in_prefect(flow_run_id: UUID, since: float, reason: str = KILLED) -> str | None:
    """Set a flow run that counts as active, and its task runs, to crashed or cancelled.

    Returns:
        What was set, for people; None if the run was tried again since.
    """
    with get_client(sync_client=True) as client:
        try:
            flow_run = client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            return ""
        task_runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(ACTIVE)))
            ),
        )
        if _tried_again(flow_run, since):
            return None
        for task_run in task_runs:
            client.set_task_run_state(task_run.id, Crashed(message=reason), force=True)
        tasks = f"{len(task_runs)} task runs set to Crashed" if task_runs else ""
        return "; ".join(part for part in (_end_flow_run(client, flow_run, reason), tasks) if part)


def _end_flow_run(client: SyncPrefectClient, flow_run: FlowRun, reason: str) -> str:
    if flow_run.state is None or flow_run.state.type not in ACTIVE:
        return ""
    asked_to_cancel = flow_run.state.type == StateType.CANCELLING
    state: State[None] = (Cancelled if asked_to_cancel else Crashed)(message=reason)
    client.set_flow_run_state(flow_run.id, state, force=True)
    return f"flow run {flow_run.name} set to {state.name}"


def _tried_again(flow_run: FlowRun, since: float) -> bool:
    """Whether the flow run was started again after the note was written: another process has it."""
    state = flow_run.state
    if state is None or state.type not in (StateType.RUNNING, StateType.PENDING):
        return False
    return state.timestamp > datetime.fromtimestamp(since, tz=UTC)
