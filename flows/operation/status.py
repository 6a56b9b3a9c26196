"""`quartet status`: servers, worker, runs and disk on one screen."""

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from models.errors import QuartetError
from tasks.escaping import in_one_line
from tasks.machine.addresses import addresses, is_locked, running_up
from tasks.machine.lookup import Kind, find_server, prefect_client
from tasks.settings import Settings
from tasks.upkeep.garbage import last_found
from tasks.upkeep.weight import DAYS, STORE, weigh

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import State

RUNS = 5
LONGEST_LINE = 120
NOTES = ("runs", "commands")
"""Folders of notes that processes leave while they run."""

ACTIVE = ("RUNNING", "PENDING", "PAUSED", "CANCELLING")


def status(settings: Settings) -> str:
    """Servers, worker, runs and disk space as text; a running `quartet up` knows the servers."""
    api, mlflow = addresses(settings)
    up = running_up(settings)
    serving = f"served by process {up.pid}" if up else "no `quartet up` is running"
    prefect, is_up = _server("Prefect", api)
    lines = [f"Home folder   {settings.root} ({serving})"]
    lines += [f"Prefect       {prefect}", f"MLflow        {_server('MLflow', mlflow)[0]}"]
    if is_up:
        try:
            lines += _prefect_lines(api)
        except Exception as error:  # such as a server that stops just now
            lines.append(f"Runs          could not be read from Prefect: {error}")
    stale = stale_runs(settings)
    if stale:
        remedy = "the next run, `quartet sync` or `quartet up` reconciles them"
        lines.append(f"Stale runs    {len(stale)} were killed; {remedy}")
    lines += list(_disk_lines(settings))
    return "\n".join(lines)


def stale_runs(settings: Settings) -> list[Path]:
    """Notes of runs whose process ended without removing them."""
    notes = sorted(path for name in NOTES for path in (settings.root / name).glob("*.json"))
    return [path for path in notes if not is_locked(path.with_suffix(".lock"))]


def existing_folder(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return path if path.exists() else existing_folder(path.parent)


def _server(kind: Kind, url: str) -> tuple[str, bool]:
    """What to say of a server, and whether it can be used."""
    shown = url.removesuffix("/api") if kind == "Prefect" else url
    if not url.startswith("http"):
        return f"{shown}, no server", False
    try:
        found = find_server(kind, url)
    except QuartetError as error:
        return f"{shown}  error: {error}", False
    if found is None:
        return f"{shown}  down", False
    closed = "" if found.closed else ", without a password"
    return f"{shown}  version {found.version}, up{closed}", True


def _prefect_lines(api: str) -> Iterator[str]:
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import ObjectNotFound

    from flows.operation.registration import POOL

    begun_types = [one for one in StateType if one != StateType.SCHEDULED]
    with prefect_client(api) as client:
        try:
            pool = client.read_work_pool(POOL)
            workers = client.read_workers_for_work_pool(POOL)
            online = [one.name for one in workers if one.status == "ONLINE"]
            text = ", ".join(online) + " online" if online else "no worker is online"
            yield f"Work pool     {POOL}{' (paused)' if pool.is_paused else ''}: {text}"
        except ObjectNotFound:
            yield f"Work pool     {POOL} does not exist; `quartet up` creates it"
        begun = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=begun_types))
        runs = client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(state=begun),
            limit=RUNS,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        for run in runs:
            when = run.start_time or run.expected_start_time
            at = f"{when.astimezone():%Y-%m-%d %H:%M}" if when else "not started"
            lasted = datetime.timedelta(seconds=round(run.estimated_run_time.total_seconds()))
            yield f"Run           {run.name:32} {run.state_name or '?':12} {at}  {lasted}"
            form = run.parameters.get("run")
            given = form if isinstance(form, dict) else run.parameters
            for about in (_how_it_ended(run.state), str(given.get("note") or "")):
                if about:
                    yield f"                {in_one_line(' '.join(about.split()))[:LONGEST_LINE]}"
            if run.state is not None and run.state.type.value in ACTIVE:
                yield from _stage_lines(client, run.id)
        if not runs:
            yield "Run           none yet"


def _how_it_ended(state: "State | None") -> str:
    """What Prefect has of a final state, such as the verdict or the error."""
    if state is None or not state.is_final() or not state.message:
        return ""
    return state.message.removeprefix("Flow run encountered an exception: ")


def _stage_lines(client: "SyncPrefectClient", flow_run_id: UUID) -> Iterator[str]:
    """How far a run is, by its bar; without one, its running stages."""
    from prefect.client.schemas import filters

    bars = client.read_artifacts(
        artifact_filter=filters.ArtifactFilter(
            flow_run_id=filters.ArtifactFilterFlowRunId(any_=[flow_run_id]),
            type=filters.ArtifactFilterType(any_=["progress"]),
        )
    )
    for bar in bars:
        yield f"                {float(str(bar.data)):.0f}%  {bar.description or ''}"
    of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[flow_run_id]))
    for task in [] if bars else client.read_task_runs(flow_run_filter=of_run):
        if task.state_name == "Running":
            yield f"                stage {task.name}"


def _disk_lines(settings: Settings) -> Iterator[str]:
    parts = weigh(settings)
    stages = next((part.stages for part in parts if part.name == STORE), 0)
    free = shutil.disk_usage(existing_folder(settings.root)).free
    yield f"Disk          {stages} published stages; {_in_gb(free)} free"
    for part in parts:
        newer = "" if part.newer is None else f", {_in_gb(part.newer)} of it from {DAYS} days"
        yield f"                {part.name}: {_in_gb(part.size)}{newer}"
    if (last := last_found(settings)) is not None:
        when = datetime.datetime.fromtimestamp(last[0]).strftime("%Y-%m-%d %H:%M")
        yield f"                `quartet gc` would free {_in_gb(last[1])}, as of {when}"
    elif stages:
        yield "                what of it nothing refers to: `quartet gc --dry-run`"


def _in_gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
