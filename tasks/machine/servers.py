"""The servers and the worker as child processes: started, waited for, explained, stopped again.

They end with the process that started them, also when that one is killed
(`tasks/machine/guardian.py`).
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import QuartetError
from tasks.machine import guardian
from tasks.machine.guardian import descendants
from tasks.machine.launch import accounts_file
from tasks.machine.logs import explain
from tasks.machine.lookup import (
    Kind,
    NotOpenedError,
    RunningServer,
    find_server,
    loopback_url,
    served_by_others,
)
from tasks.machine.password import password_file

START_SECONDS = 120.0
"""Longest wait for a server: a busy machine needs minutes for the first migration."""

MESSAGE_SECONDS = 10.0


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
    inherited: Sequence[int] = (),
) -> Child:
    """Start a process that ends with us and that Ctrl-C in the terminal does not reach.

    It and what it starts take no modules from the current folder.

    Args:
        grace_seconds: Time to end by itself.
        inner_first: Whether what it started is ended before it is.
        inherited: Open files that it and its guardian hold until they end.
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
            env={**environment, "PYTHONSAFEPATH": "1"},
            cwd=folder,
            start_new_session=True,
            pass_fds=inherited,
        )
    return Child(name=name, process=process, log=log)


def wait_for_server(
    kind: Kind,
    port: int,
    child: Child,
    environment: Mapping[str, str],
    *,
    say: Callable[[str], None],
    seconds: float = START_SECONDS,
) -> RunningServer:
    """Wait until a server that was started answers, and accepts the environment's credentials.

    Raises:
        QuartetError: It ended or did not answer in time, with the end of its log; or another
            process took the port meanwhile.
    """
    begin = last_message = time.monotonic()
    trouble = ""
    while True:
        status = child.ended()
        waited = time.monotonic() - begin
        if status is not None:
            what = f"ended with status {status} while starting"
            raise QuartetError(explain(child.name, what, child.log))
        found, refusal = None, None
        try:
            found = find_server(kind, loopback_url(kind, port), environment)
        except NotOpenedError as error:
            refusal = error
        except QuartetError as error:  # answers, but is not ready yet
            trouble = f"; {error}"
        # Looked up after the question: whoever answered it listened by then.
        if served_by_others(port, descendants(child.process.pid)):
            raise _taken(kind, port)
        if refusal is not None:
            raise _refused(kind, port, child) from refusal
        if found is not None:
            return found
        if waited > seconds:
            what = f"no answer on port {port} in {waited:.0f} s{trouble}"
            raise QuartetError(explain(child.name, what, child.log))
        if time.monotonic() - last_message >= MESSAGE_SECONDS:
            last_message = time.monotonic()
            say(f"{kind} server: still starting, {waited:.0f} s ({child.log})")
        time.sleep(0.2)


def _refused(kind: Kind, port: int, child: Child) -> QuartetError:
    if kind == "Prefect":  # which keeps no accounts: ours takes the password it was given
        return _taken(kind, port)
    root = child.log.parent.parent
    return QuartetError(
        f"{kind} does not accept the password in {password_file(root)}: its accounts were made "
        f"with another one; put that back, or remove {accounts_file(root)} and start again"
    )


def _taken(kind: Kind, port: int) -> QuartetError:
    return QuartetError(
        f"another process has taken port {port} while {kind} started; end that one, or choose "
        f"another port with `--{kind.lower()}-port`"
    )
