"""The addresses of the servers that a home folder uses, and the note by which they are found.

While `quartet up` runs it holds a lock in the home folder, and a note beside it says where its
servers are and which of them the home's password opens. Commands in another terminal read it.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from models.errors import QuartetError
from tasks.machine.lookup import HOST, held_by_another_account
from tasks.machine.password import USER, read_password
from tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UpNote:
    """What a running `quartet up` says of itself.

    Attributes:
        pid: Its process.
        prefect: Address of the Prefect server, without `/api`.
        mlflow: Address of the MLflow server.
        closed: Those of the two that the home's password opens.
    """

    pid: int
    prefect: str
    mlflow: str
    closed: Sequence[str] = ()


@contextlib.contextmanager
def one_at_a_time(settings: Settings, note: UpNote) -> Iterator[None]:
    """Hold the home folder for one `quartet up`; leave a note of who holds it.

    Raises:
        QuartetError: Another one holds it.
    """
    settings.root.mkdir(parents=True, exist_ok=True)
    lock, path = FileLock(settings.root / "up.lock"), _path(settings)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        other = _read(path)
        who = f"process {other.pid}" if other else "its note cannot be read"
        raise QuartetError(
            f"another `quartet up` ({who}) serves {settings.root} at "
            f"{other.prefect if other else '?'}; use that one, end it first, or choose another "
            "folder with QUARTET_HOME"
        ) from error
    try:
        write_note(settings, note)
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def write_note(settings: Settings, note: UpNote) -> None:
    """Say where the servers are; whoever does holds the home folder."""
    _path(settings).write_text(json.dumps(asdict(note)), encoding="utf-8")


def running_up(settings: Settings) -> UpNote | None:
    """The note of the `quartet up` that serves a home folder, or None where none runs."""
    return _read(_path(settings)) if is_locked(settings.root / "up.lock") else None


def _path(settings: Settings) -> Path:
    return settings.root / "up.json"


def _read(path: Path) -> UpNote | None:
    try:
        return TypeAdapter(UpNote).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def addresses(settings: Settings) -> tuple[str, str]:
    """Addresses of Prefect's API and of MLflow: of the environment, else the default ports."""
    api = os.environ.get("PREFECT_API_URL") or f"http://{HOST}:4200/api"
    return api.rstrip("/"), settings.tracking_uri or f"http://{HOST}:5000"


def use_running_servers(settings: Settings) -> None:
    """Let this process use the servers of a running `quartet up`, unless told of others.

    Raises:
        QuartetError: The home's password cannot be read.
    """
    note = running_up(settings)
    if note is None:
        return
    os.environ.setdefault("PREFECT_API_URL", f"{note.prefect}/api")
    if not settings.tracking_uri:
        os.environ["QUARTET_TRACKING_URI"] = note.mlflow
    password = read_password(settings.root)
    for url in note.closed:
        if password is None or held_by_another_account(urlsplit(url).port or 80):
            continue
        if os.environ["PREFECT_API_URL"].rstrip("/") == f"{url}/api":
            os.environ.update(prefect_credentials(password))
        if os.environ["QUARTET_TRACKING_URI"].rstrip("/") == url:
            os.environ.update(mlflow_credentials(password))


def prefect_credentials(password: str) -> dict[str, str]:
    """Variables with which Prefect's clients send a password."""
    return {"PREFECT_API_AUTH_STRING": f"{USER}:{password}"}


def mlflow_credentials(password: str) -> dict[str, str]:
    """Variables with which MLflow's clients send a password."""
    return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": password}


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock file."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError) as error:
        return isinstance(error, Timeout)
