"""The two servers on loopback: used where they run already, otherwise started and stopped again.

A server that is found is used as it is and outlives us. A server that is started keeps its
database and its log in the home folder and ends with the process that started it, also when that
one is killed (`tasks/machine/guardian.py`).
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock, Timeout

from models.errors import QuartetError
from tasks.machine import guardian
from tasks.machine.liveness import Note
from tasks.machine.logs import explain
from tasks.settings import Settings

HOST = "127.0.0.1"

Kind: TypeAlias = Literal["Prefect", "MLflow"]

HEALTH: dict[Kind, tuple[str, str, str]] = {
    "Prefect": ("/api/health", "true", "/api/admin/version"),
    "MLflow": ("/health", "OK", "/version"),
}
"""Where each server tells its health, what it says there, and where it tells its version."""

START_SECONDS = 120.0
"""Longest wait for a server: a busy machine needs minutes for the first migration."""

MESSAGE_SECONDS = 10.0

EVENT_SECONDS = json.dumps(
    {
        "prefect.artifact-collection.created": 3600,
        "prefect.artifact-collection.updated": 3600,
        "prefect.flow-run.heartbeat": 604800,
    }
)
"""How long Prefect keeps events of these kinds, which hold a copy of every report and picture."""

LEASE_STORAGE = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers; its `url` has no path."""

    url: str
    version: str


def find_server(kind: Kind, port: int) -> RunningServer | None:
    """Return the server of this kind on a port of loopback, or None where the port is free.

    Raises:
        QuartetError: Something else holds the port.
    """
    path, healthy, version_path = HEALTH[kind]
    try:
        answer = _get(port, path)
        version = _get(port, version_path).strip('"') if answer == healthy else ""
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException) as error:
        answer, version = f"no HTTP ({type(error).__name__}: {error})", ""
    if re.match(r"\d+\.\d+", version):
        return RunningServer(url=f"http://{HOST}:{port}", version=version)
    raise QuartetError(
        f"port {port} is held by something that is not a healthy {kind} server: {path} answered "
        f"{answer[:80]!r}, wanted {healthy!r}; end it, or choose another port with "
        f"`--{kind.lower()}-port`"
    )


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read(1000).decode("utf-8", "replace").strip()
        return text if response.status == 200 else f"{response.status} {response.reason}"
    finally:
        connection.close()


def child_environment(settings: Settings, *, prefect_port: int, mlflow_uri: str) -> dict[str, str]:
    """Environment of the servers, the worker and through it of every flow run."""
    root = settings.root
    chosen = {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, a restarted server would forget the leases and still count their slots.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_STORAGE,
        "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": EVENT_SECONDS,
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_PREFETCH_SECONDS": "5",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "models,tasks",
        "PREFECT_LOGGING_COLORS": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    api = f"http://{HOST}:{prefect_port}/api"
    fixed = {
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_UI_URL": f"http://{HOST}:{prefect_port}",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{root / 'prefect.db'}",
        "QUARTET_HOME": str(root),
        "QUARTET_TRACKING_URI": mlflow_uri,
    }
    return {**chosen, **os.environ, **fixed}


def server_command(kind: Kind, settings: Settings, port: int) -> list[str]:
    """Command that serves from the home folder."""
    if kind == "Prefect":
        words = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
    else:
        words = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{settings.root / 'mlflow.db'}"]
        words += ["--artifacts-destination", str(settings.root / "mlflow-artifacts")]
    return [sys.executable, "-m", *words]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that was started.

    Attributes:
        name: What it is, for messages.
        process: Its guardian, which ends when the process and all below it have ended.
        log: Where both write.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> int | None:
        return self.process.poll()

    def stop(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """End it and all below it, and wait; at once where `interrupted` turns true."""
        if self.ended() is None:
            self.process.send_signal(signal.SIGTERM)
        while self.ended() is None:
            if interrupted():
                self.process.send_signal(signal.SIGTERM)  # a second one cuts the grace short
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.2)
        if self.process.stdin is not None:
            self.process.stdin.close()


def start_child(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
    grace_seconds: float = 10.0,
    inner_first: bool = False,
) -> Child:
    """Start a process that ends with us and that Ctrl-C in the terminal does not reach.

    With `inner_first`, what it started is ended before it is.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    order = "inner" if inner_first else "outer"
    guard = [sys.executable, "-I", str(guardian.__file__), str(grace_seconds), order]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    return Child(name=name, process=process, log=log)


def wait_for_server(
    kind: Kind,
    port: int,
    child: Child,
    *,
    say: Callable[[str], None],
    seconds: float = START_SECONDS,
) -> RunningServer:
    """Wait until a server that was started answers.

    Raises:
        QuartetError: It ended or did not answer in time; the message shows the end of its log.
    """
    begin = last_message = time.monotonic()
    while True:
        status = child.ended()
        waited = time.monotonic() - begin
        if status is not None:
            what = f"ended with status {status} while starting"
            raise QuartetError(explain(child.name, what, child.log))
        with contextlib.suppress(QuartetError):  # answers, but is not ready yet
            if (found := find_server(kind, port)) is not None:
                return found
        if waited > seconds:
            what = f"no answer on port {port} in {waited:.0f} s"
            raise QuartetError(explain(child.name, what, child.log))
        if time.monotonic() - last_message >= MESSAGE_SECONDS:
            last_message = time.monotonic()
            say(f"{kind} server: still starting, {waited:.0f} s ({child.log})")
        time.sleep(0.2)


@contextlib.contextmanager
def one_at_a_time(settings: Settings, note: Mapping[str, object]) -> Iterator[None]:
    """Hold the home folder for one `quartet up`; leave a note of who holds it.

    Raises:
        QuartetError: Another one holds it.
    """
    settings.root.mkdir(parents=True, exist_ok=True)
    lock, path = FileLock(settings.root / "up.lock"), settings.root / "up.json"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        note = Note(path).read()
        raise QuartetError(
            f"another `quartet up` (process {note.get('pid', '?')}) serves {settings.root} at "
            f"{note.get('prefect', '?')}; use that one, end it first, or choose another folder "
            "with QUARTET_HOME"
        ) from error
    try:
        path.write_text(json.dumps(note), encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
