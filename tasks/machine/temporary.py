"""A Prefect server for one command, where none is configured: started, waited for, ended with us.

Prefect would start one by itself, but that one writes its tracebacks into the terminal, needs two
minutes to notice that its database cannot be opened, answers every page of a browser, and outlives
a process that is killed. This one logs to the home folder, asks for a password that only this
process knows, and runs under the guardian (`tasks/machine/guardian.py`).
"""

import atexit
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from models.errors import QuartetError
from tasks.machine.logs import remedy, tail
from tasks.machine.lookup import HOST, find_server, loopback_url
from tasks.machine.password import USER
from tasks.machine.servers import Child, start_child
from tasks.settings import Settings

TIMEOUT = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"

COMMAND = ("-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", HOST)
OPTIONS = ("--log-level", "error", "--lifespan", "on")

started: list[str] = []
"""Addresses of servers that this process has started."""

LOOK_SECONDS = 0.1
LOGS = 10
"""How many stay, the newest, for who wants to know why a command failed."""


class _PortTakenError(QuartetError):
    """Another process got the port between its choice and its use."""


@dataclass(frozen=True, slots=True)
class _Coming:
    """A server that was started and may not answer yet."""

    child: Child
    port: int
    login: str


_coming: list[_Coming] = []


def begin_prefect(settings: Settings) -> None:
    """Start the server that `ensure_prefect` will wait for while what comes before it is done.

    Not where the home has no database: a command that is refused ends its server, and should not
    do so while tables are made.
    """
    from prefect.settings import get_current_settings

    known = get_current_settings()
    wanted = known.server.ephemeral.enabled and not known.api.url
    if wanted and not _coming and (settings.root / "prefect.db").exists():
        _coming.append(_start(settings))


def ensure_prefect(settings: Settings, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Have a Prefect API for the rest of this process: the configured one, else a server of ours.

    Args:
        meanwhile: Called while the server starts.

    Raises:
        QuartetError: The configured one does not answer, or not with these credentials; or the
            server did not start, and the message names the cause and its log.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    known = get_current_settings()
    if known.api.url:  # of the environment, or of a profile
        _want_answer(known.api.url, known.api.auth_string, known.api.key)
        meanwhile()
        return
    if not known.server.ephemeral.enabled:
        return  # Prefect itself says that there is none
    coming = _coming.pop() if _coming else _start(settings)
    meanwhile()
    seconds = float(os.environ.get(TIMEOUT) or 120)
    try:
        _wait(coming, seconds)
    except _PortTakenError:
        coming = _start(settings)
        _wait(coming, seconds)
    started.append(loopback_url("Prefect", coming.port))
    os.environ["PREFECT_API_URL"] = started[-1]
    os.environ["PREFECT_API_AUTH_STRING"] = coming.login
    refresh_global_settings_context()
    logging.getLogger("prefect.flow_runs").addFilter(_not_its_page)


def _want_answer(url: str, auth_string: SecretStr | None, key: SecretStr | None) -> None:
    given = {"PREFECT_API_AUTH_STRING": auth_string, "PREFECT_API_KEY": key}
    opening = {name: one.get_secret_value() for name, one in given.items() if one is not None}
    if find_server("Prefect", url, {**os.environ, **opening}) is None:
        raise QuartetError(
            f"there is no Prefect server at {url}; start it, or unset PREFECT_API_URL to have a "
            "temporary one"
        )


def _not_its_page(record: logging.LogRecord) -> bool:
    """Leave out the line that names a page of the run: this server shows none."""
    return not record.getMessage().startswith("View at ")


def _start(settings: Settings) -> _Coming:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = int(free.getsockname()[1])
    login = f"{USER}:{secrets.token_urlsafe(24)}"
    environment = {
        **os.environ,
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_LOGGING_COLORS": "false",
    }
    command = [sys.executable, *COMMAND, "--port", str(port), *OPTIONS]
    folder = settings.root / "logs"
    for older in sorted(folder.glob("prefect-of-*.log"), key=_written)[: 1 - LOGS]:
        older.unlink(missing_ok=True)  # a server that still runs keeps its own open
    log = folder / f"prefect-of-{os.getpid()}.log"
    child = start_child(
        "Prefect server", command, log=log, environment=environment, folder=settings.root
    )
    atexit.register(child.stop)  # after Prefect has sent what it still holds
    return _Coming(child, port, login)


def _written(log: Path) -> float:
    try:
        return log.stat().st_mtime
    except OSError:  # another command has removed it
        return 0.0


def _wait(coming: _Coming, seconds: float) -> None:
    begin, child = time.monotonic(), coming.child
    while not _answers(coming):
        waited = time.monotonic() - begin
        status = child.ended()
        if status is None and waited < seconds:
            time.sleep(LOOK_SECONDS)
            continue
        child.stop()
        what = f"no answer after {waited:.0f} s" if status is None else f"ended with {status}"
        busy = (
            f"the machine is busy: try again later, wait longer with {TIMEOUT}, or keep a server "
            "running with `quartet up`"
        )
        cure = remedy(child.name, child.log) or (busy if status is None else "see its log")
        taken = "address already in use" in tail(child.log)
        raise (_PortTakenError if taken else QuartetError)(
            f"the temporary Prefect server did not start ({what}): {cure}; its log is {child.log}"
        )


def _answers(coming: _Coming) -> bool:
    environment = {**os.environ, "PREFECT_API_AUTH_STRING": coming.login}
    try:
        found = find_server("Prefect", loopback_url("Prefect", coming.port), environment)
        return found is not None and found.closed  # with our password: it is no one else's
    except QuartetError:  # answers, but is not ready yet
        return False
