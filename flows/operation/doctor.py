"""`quartet doctor`: checks of what could make a run fail, each with its remedy.

The checks change nothing, except that one creates a temporary deployment with a schedule, to see
whether the Prefect server's scheduler creates a run for it.
"""

import contextlib
import datetime
import importlib.metadata
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from flows.operation.status import existing_folder, stale_runs
from models.errors import QuartetError
from tasks.escaping import for_terminal
from tasks.machine.addresses import addresses, is_locked
from tasks.machine.lookup import Kind, find_server, is_loopback, loopback_url, prefect_client
from tasks.settings import Settings

PACKAGE = "quartet-rlhf"
LEAST_PYTHON = (3, 11)

KNOWN_BAD = {
    "fastapi": "0.151 to 0.154 break `prefect deploy`, 0.155 and newer stop every Prefect flow",
    "sqlalchemy": "with 2.1 Prefect's scheduler silently never creates a run",
    "prefect": "newer ones do not resolve together with this MLflow",
    "mlflow": "newer ones do not resolve together with this Prefect",
}
"""Measured effects of versions outside the pins."""

WARN_DISK_BYTES, FAIL_DISK_BYTES = 10e9, 1e9
SCHEDULE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check; the remedy is empty if nothing is wrong."""

    name: str
    level: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def _check(name: str, found: str, *, warn: str = "", fail: str = "") -> Check:
    """A check that is ok unless a remedy is given."""
    level: Literal["ok", "warn", "fail"] = "fail" if fail else "warn" if warn else "ok"
    return Check(name=name, level=level, found=found, remedy=fail or warn)


def diagnose(
    settings: Settings,
    *,
    quick: bool = False,
    prefect_port: int | None = None,
    mlflow_port: int | None = None,
) -> Iterator[Check]:
    """Run all checks, one after the other."""
    prefect, mlflow = addresses(settings)
    prefect = loopback_url("Prefect", prefect_port) if prefect_port else prefect
    mlflow = loopback_url("MLflow", mlflow_port) if mlflow_port else mlflow
    yield _python()
    yield from check_pins(importlib.metadata.requires(PACKAGE) or [], importlib.metadata.version)
    yield _home(settings)
    yield _disk(settings)
    yield _threads(settings)
    yield _processes(settings)
    for name in ("prefect.db", "mlflow.db"):
        yield _database(settings.root / name)
    yield from _store(settings)
    servers = _server("Prefect", prefect), _server("MLflow", mlflow)
    yield from servers
    if not quick and servers[0].level == "ok":
        yield check_schedule(prefect)
    elif not quick:
        found = "not checked: no Prefect server answers"
        yield _check("schedule", found, warn="start `quartet up` and check again")


def print_checks(checks: Iterator[Check]) -> int:
    """Print checks as they come; return the exit status."""
    worst = 0
    for check in checks:
        print(for_terminal(f"{check.level:5} {check.name}: {check.found}"), flush=True)
        if check.remedy:
            print(for_terminal(f"      -> {check.remedy}"), flush=True)
        worst = max(worst, int(check.level == "fail"))
    return worst


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < LEAST_PYTHON:
        remedy = f"recreate the environment with Python {'.'.join(map(str, LEAST_PYTHON))}"
        return _check("Python", found, fail=remedy)
    return _check("Python", f"{found} ({sys.executable})")


def check_pins(requirements: list[str], installed: Callable[[str], str]) -> Iterator[Check]:
    """Compare installed versions with the package's pins, both as in `importlib.metadata`."""
    wrong, right = [], 0
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = installed(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            version = "missing"
        if version != "missing" and wanted.specifier.contains(version, prereleases=True):
            right += 1
            continue
        known = KNOWN_BAD.get(wanted.name.lower(), "")
        wrong.append(
            _check(
                f"version of {wanted.name}",
                f"{version}, wanted {wanted.specifier}" + (f": {known}" if known else ""),
                fail=f"pip install -c constraints.txt '{wanted.name}{wanted.specifier}'",
            )
        )
    yield from wrong
    if not wrong:
        yield _check("versions", f"{right} packages as pinned")


def _home(settings: Settings) -> Check:
    folder = existing_folder(settings.root)
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return _check("home folder", f"{settings.root} is writable")
    except OSError as error:
        remedy = "choose another folder with QUARTET_HOME, or change its owner or permissions"
        return _check("home folder", str(error), fail=remedy)


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(existing_folder(settings.root)).free
    found = f"{free / 1e9:.1f} GB free at {settings.root}"
    remedy = "remove old stages with `quartet gc`, or choose another disk with QUARTET_HOME"
    if free < FAIL_DISK_BYTES:
        return _check("disk", found, fail=remedy)
    return _check("disk", found, warn=remedy if free < WARN_DISK_BYTES else "")


def _threads(settings: Settings) -> Check:
    cores = _cores()
    text = os.environ.get("OMP_NUM_THREADS", "")
    asked = settings.threads or (int(text) if text.isdigit() else 0)
    found = f"{asked or 'as many as torch chooses'} of {cores} cores"
    remedy = f"set QUARTET_THREADS or OMP_NUM_THREADS to {cores} or less"
    return _check("threads", found, warn=remedy if asked > cores else "")


def _processes(settings: Settings) -> Check:
    hosts = f", on {settings.nodes} hosts that meet at {settings.rendezvous}"
    hosts = hosts if settings.nodes > 1 else ""
    if not settings.processes:
        return _check("processes", f"one for each GPU, or one on a CPU{hosts}")
    found = f"{settings.processes}, {settings.sharding}{hosts}"
    if settings.tensor_parallel > 1:
        found += f", {settings.tensor_parallel} for each layer"
    cores = _cores()
    crowded = settings.processes > cores
    remedy = f"set QUARTET_PROCESSES to {cores}, the number of cores, or less"
    return _check("processes", found, warn=remedy if crowded else "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _database(path: Path) -> Check:
    if not path.exists():
        return _check(path.name, "not created yet")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as opened:
            row = opened.execute("select version_num from alembic_version").fetchone()
    except sqlite3.Error as error:
        remedy = "restore a backup, or move it away to start empty; the store keeps every result"
        return _check(path.name, f"{path} does not open ({error})", fail=remedy)
    return _check(path.name, f"schema {row[0] if row else 'empty'}")


def _store(settings: Settings) -> Iterator[Check]:
    writing = settings.store.glob("*/*.writing")
    left = [path for path in writing if not is_locked(path.with_suffix(".lock"))]
    partial = len(list(settings.store.glob("*/*.partial")))
    stages = len(list(settings.store.glob("*/*/MANIFEST.json")))
    found = f"{stages} stages, {partial} unfinished"
    if left:
        found += f"; partly written: {', '.join(path.name[:20] for path in left[:3])}"
    yield _check("store", found, warn=f"rm -r {settings.store}/*/*.writing" if left else "")
    if stale := stale_runs(settings):
        found = f"{len(stale)} were killed and may still be shown as Running"
        yield _check("runs", found, warn="run `quartet sync`: it reconciles them")


def _server(kind: Kind, url: str) -> Check:
    name = f"{kind} server"
    try:
        found = find_server(kind, url)
    except QuartetError as error:
        text, _, remedy = str(error).partition("; ")
        return Check(name=name, level="fail", found=text, remedy=remedy)
    if found is None and is_loopback(url):
        return _check(name, f"no answer at {url}; port free", warn="start it with `quartet up`")
    if found is None:
        variable = "PREFECT_API_URL" if kind == "Prefect" else "QUARTET_TRACKING_URI"
        return _check(name, f"no answer at {url}", fail=f"start it, or correct {variable}")
    said = f"{found.version} at {found.url}"
    if found.closed:
        return _check(name, said)
    remedy = "start it with a password, as `quartet up` does without --no-password"
    return _check(name, f"{said}, without a password", warn=remedy)


def check_schedule(api: str, seconds: float = SCHEDULE_SECONDS) -> Check:
    """Check that a schedule creates a run; everything created for it is removed again."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.schedules import IntervalSchedule

    name = f"quartet-doctor-{uuid.uuid4().hex[:8]}"
    schedule = IntervalSchedule(
        interval=datetime.timedelta(days=1), anchor_date=datetime.datetime.now(datetime.UTC)
    )
    begin = time.monotonic()
    with prefect_client(api) as client:
        flow_id = client.create_flow_from_name(name)
        try:
            made = client.create_deployment(
                flow_id, name, schedules=[DeploymentScheduleCreate(schedule=schedule)]
            )
            here = DeploymentFilter(id=DeploymentFilterId(any_=[made]))
            while not (runs := client.read_flow_runs(deployment_filter=here)):
                if time.monotonic() - begin > seconds:
                    found = f"the scheduler created no run in {seconds:.0f} s"
                    remedy = "check the version of sqlalchemy and the Prefect server's log"
                    return _check("schedule", found, fail=remedy)
                time.sleep(0.5)
            found = f"created {len(runs)} run(s) after {time.monotonic() - begin:.0f} s"
            return _check("schedule", found)
        finally:
            with contextlib.suppress(Exception):
                client.delete_deployment(made)  # first, or the scheduler creates more runs
            client.delete_flow(flow_id)  # and its runs with it
