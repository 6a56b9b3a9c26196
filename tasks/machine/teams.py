"""Processes that learn together on this machine: started by torchrun under a guardian, and ended.

The guardian ends them all with whoever started them, however that ends. It and torchrun hold a
lock until they have ended, so that a second attempt at the same work waits for the first one's
processes even where it was killed and could not.
"""

import contextlib
import fcntl
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.machine.logs import tail
from tasks.machine.servers import Child, start_child

MODULE = "models.distributed.worker"
LOCK = "lock"
LAUNCHER_LOG = "launcher.log"
RANK_LOGS = "ranks"

LEAVE_SECONDS = 20
"""For ranks that were told to stop to finish their step and save; then torchrun kills them."""

GRACE_SECONDS = 25.0
"""For torchrun and all ranks, less than the 30 s after which Prefect kills a cancelled run."""

LINES = 20

FAILURE = re.compile(r"^ +rank +: (\d+) .*?^ +exitcode +: (-?\d+)", re.DOTALL | re.MULTILINE)
"""One of the failures that torchrun lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A rank that ended wrongly, as torchrun saw it."""

    rank: int
    status: int
    host: str

    def __str__(self) -> str:
        """Say it in words."""
        how = "was killed" if self.killed else "ended"
        return f"process {self.rank} on {self.host} {how} with exit status {self.status}"

    @property
    def killed(self) -> bool:
        """Whether a signal ended it that is not torchrun's to the others."""
        return self.status < 0 and self.status != -signal.SIGTERM


@contextlib.contextmanager
def held_lock(folder: Path, *, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold a team's lock; processes of an earlier attempt that still leave are waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    on_wait()
                waiting = True
                time.sleep(0.2)
        yield lock
    finally:
        os.close(lock)


def start_team(spec: Path, *, processes: int, environment: Mapping[str, str], lock: int) -> Child:
    """Start processes that do what the spec in their folder says.

    Args:
        environment: Of each.
        lock: Of `held_lock`.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", "--local-addr", "127.0.0.1"),
        *("--nproc-per-node", str(processes), "--max-restarts", "0"),
        *("--shutdown-timeout", str(LEAVE_SECONDS)),
        *("--log-dir", str(spec.parent / RANK_LOGS), "--redirects", "3"),
        *("-m", MODULE, str(spec)),
    ]
    return start_child(
        "torchrun",
        command,
        log=spec.parent / LAUNCHER_LOG,
        environment=environment,
        grace_seconds=GRACE_SECONDS,
        inherited=[lock],
    )


def failures(folder: Path) -> list[Failure]:
    """The ranks that ended wrongly; empty where torchrun was ended itself."""
    text = (folder / LAUNCHER_LOG).read_text(encoding="utf-8", errors="replace")
    host = socket.gethostname()
    return [
        Failure(rank=int(rank), status=int(status), host=host)
        for rank, status in FAILURE.findall(text)
    ]


def last_lines(folder: Path, rank: int | None) -> str:
    """The end of what a rank wrote on its standard error, or what torchrun did."""
    if rank is None:
        return tail(folder / LAUNCHER_LOG, LINES)
    logs = [*(folder / RANK_LOGS).glob(f"*/attempt_0/{rank}/stderr.log")]
    return tail(logs[0], LINES) if logs else "    (no log)"
