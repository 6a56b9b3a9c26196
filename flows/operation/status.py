"""`quartet status`: servers, worker, runs and disk on one screen."""

import datetime
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from filelock import FileLock, Timeout

from models.errors import QuartetError
from tasks.machine.liveness import Note
from tasks.machine.servers import HOST, Kind, find_server
from tasks.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

RUNS = 5
NOTES = ("runs", "commands")
"""Folders of notes that processes leave while they run."""

ACTIVE = ("RUNNING", "PENDING", "PAUSED", "CANCELLING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Addresses of a home folder's servers, and the process id of the running `quartet up`."""

    prefect: str
    mlflow: str
    up: int | None


def addresses(settings: Settings) -> Addresses:
    """From the running `quartet up`, else the environment, else the default ports."""
    note = {}
    if is_locked(settings.root / "up.lock"):
        note = Note(settings.root / "up.json").read()
    api = os.environ.get("PREFECT_API_URL", "").removesuffix("/").removesuffix("/api")
    return Addresses(
        prefect=note.get("prefect") or api or f"http://{HOST}:4200",
        mlflow=note.get("mlflow") or settings.tracking_uri or f"http://{HOST}:5000",
        up=note.get("pid"),
    )


def status(settings: Settings) -> str:
    """Servers, worker, runs and disk space as text."""
    where = addresses(settings)
    serving = f"served by process {where.up}" if where.up else "no `quartet up` is running"
    lines = [f"Home folder   {settings.root} ({serving})"]
    prefect = _server("Prefect", where.prefect)
    lines += [f"Prefect       {prefect}", f"MLflow        {_server('MLflow', where.mlflow)}"]
    if prefect.endswith("up"):
        try:
            lines += _prefect_lines(f"{where.prefect}/api")
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


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock file."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError) as error:
        return isinstance(error, Timeout)


def existing_folder(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return path if path.exists() else existing_folder(path.parent)


def _server(kind: Kind, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return f"{url}, no server"
    if parts.hostname not in (HOST, "localhost"):
        return f"{url}, on another machine: not checked"
    try:
        found = find_server(kind, parts.port or 80)
    except QuartetError as error:
        return f"{url}  error: {error}"
    return f"{url}  version {found.version}, up" if found else f"{url}  down"


def _prefect_lines(api: str) -> Iterator[str]:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import ObjectNotFound

    from flows.operation.registration import POOL

    begun_types = [one for one in StateType if one != StateType.SCHEDULED]
    with SyncPrefectClient(api) as client:
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
            if run.state is not None and run.state.type.value in ACTIVE:
                yield from _stage_lines(client, run.id)
        if not runs:
            yield "Run           none yet"


def _stage_lines(client: "SyncPrefectClient", flow_run_id: UUID) -> Iterator[str]:
    """The running stages of a run, with their progress."""
    from prefect.client.schemas import filters

    of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[flow_run_id]))
    bars = client.read_artifacts(
        artifact_filter=filters.ArtifactFilter(
            flow_run_id=filters.ArtifactFilterFlowRunId(any_=[flow_run_id]),
            type=filters.ArtifactFilterType(any_=["progress"]),
        )
    )
    by_task = {bar.task_run_id: bar for bar in bars}
    for task in client.read_task_runs(flow_run_filter=of_run):
        if task.state_name == "Running":
            bar = by_task.get(task.id)
            done = f"{float(str(bar.data)):.0f}%  {bar.description or ''}" if bar else ""
            yield f"                stage {task.name:26} {done}"


def _disk_lines(settings: Settings) -> Iterator[str]:
    size = sum(path.stat().st_size for path in settings.store.rglob("*") if path.is_file())
    stages = len(list(settings.store.glob("*/*/MANIFEST.json")))
    free = shutil.disk_usage(existing_folder(settings.root)).free
    yield f"Store         {stages} stages, {size / 1e9:.2f} GB; {free / 1e9:.1f} GB of disk free"
