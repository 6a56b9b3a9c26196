"""A child process that cannot be left behind: runs a command and ends with whoever started it.

    python guardian.py GRACE_SECONDS outer|inner COMMAND...

Standard input is a pipe held by the starter. It closes when the starter ends, however it ends,
and then the command and all that it started get SIGTERM and, after the grace, SIGKILL. On Linux
the guardian adopts orphans, so that processes in sessions of their own are found too; elsewhere
`ps` tells who started whom, and orphans are known from before. With `inner`, what the command
started gets SIGTERM and time before the command does: Prefect's worker would kill its flow runs
without that time.
Standard library only: it must start at once.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

PROCESSES = Path("/proc")
"""Where Linux tells of them."""
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36
"""Requests of Linux's prctl."""

LOOK_SECONDS = 0.1
REPORT_SECONDS = 1.0
"""Time for the command to report how what it had started ended."""
LAST_SECONDS = 5.0
"""Time for the command itself, where what it started took all of the grace."""

requests: list[int] = []
"""Signals to end that came so far; the second one cuts the grace short."""


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the starter does; give its exit status."""
    grace, inner, command = float(arguments[0]), arguments[1] == "inner", arguments[2:]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ask)
    _prctl(SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent, close_fds=False
    )  # what the starter wants held until the end is inherited
    while child.poll() is None and not requests:
        if select.select([sys.stdin], [], [], LOOK_SECONDS)[0] and not os.read(0, 1):
            break
    deadline = time.monotonic() + grace
    known = descendants(os.getpid())
    if inner and child.poll() is None and (below := list(_children(child.pid))):
        _send(below, signal.SIGTERM)
        _wait_while(lambda: bool(set(below) & set(_children(child.pid))), deadline)
        _wait_while(lambda: child.poll() is None, min(deadline, time.monotonic() + REPORT_SECONDS))
    deadline = max(deadline, time.monotonic() + LAST_SECONDS)
    if child.poll() is None:
        _send([child.pid], signal.SIGTERM)  # it ends what it started in its own order
        _wait_while(lambda: child.poll() is None, deadline)
    _send(_left(known), signal.SIGTERM)
    _wait_while(lambda: _reap(child) and bool(_left(known)), deadline)
    while left := _left(known):
        _send(left, signal.SIGKILL)
        _reap(child)
        time.sleep(LOOK_SECONDS)
    status = child.wait()
    return status if status >= 0 else 128 - status


def descendants(pid: int) -> list[int]:
    """Process ids of all below `pid`; empty where the system does not tell."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = list(_children(waiting.pop()))
        found += below
        waiting += below
    return found


def _left(known: list[int]) -> list[int]:
    """What is still below us, and where we adopt no orphans those of before that became some."""
    if _tells():
        return descendants(os.getpid())
    return [*descendants(os.getpid()), *set(known).intersection(_children(1))]


def _tells() -> bool:
    return (PROCESSES / "self").exists()


def _children(pid: int) -> Iterator[int]:
    if not _tells():
        yield from _children_by_ps(pid)
    for path in PROCESSES.glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, path.read_text().split())


def _children_by_ps(pid: int) -> Iterator[int]:
    try:
        rows = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return
    for row in rows:
        one, parent, name = row.split(maxsplit=2)
        if int(parent) == pid and not name.endswith("ps"):  # ours, which has ended by now
            yield int(one)


def _ask(number: int, _: FrameType | None) -> None:
    requests.append(number)


def _wait_while(busy: Callable[[], bool], deadline: float) -> None:
    while busy() and time.monotonic() < deadline and len(requests) < 2:
        time.sleep(LOOK_SECONDS)


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap(child: subprocess.Popen[bytes]) -> bool:
    """Reap adopted processes that have ended, but leave the child's status to `Popen`."""
    child.poll()
    for pid in _children(os.getpid()):
        if pid != child.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return True


def _prctl(request: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(request, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
