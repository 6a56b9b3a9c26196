"""Processes that learn together: started by torchrun under a guardian on each host, and ended.

The guardian ends them all with whoever started them, however that ends. It and torchrun hold a
lock until they have ended, so that a second attempt at the same work waits for the first one's
processes even where it was killed and could not.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.machine.logs import tail
from tasks.machine.servers import Child, start_child

MODULE = "models.distributed.worker"
LOCK = "lock"
LAUNCHER_LOG = "launcher.log"
RANK_LOGS = "ranks"
ELSEWHERE = "failures-*.json"
"""Failures that other hosts told of."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """This host among those whose processes learn together.

    Attributes:
        number: From 0, the first host.
        of: How many there are.
        address: This host's.
        leader: Address and port of the first host where all processes meet.
    """

    number: int
    of: int
    address: str
    leader: tuple[str, int]

    def arguments(self) -> list[str]:
        """What torchrun is told: a static rendezvous, which looks up no names."""
        host, port = self.leader
        return [
            *("--nnodes", str(self.of), "--node-rank", str(self.number)),
            *("--master-addr", host, "--master-port", str(port), "--local-addr", self.address),
        ]


ALONE = ("--standalone", "--local-addr", "127.0.0.1")
"""What torchrun is told where one host learns."""


def start_team(
    spec: Path, *, processes: int, environment: Mapping[str, str], lock: int, node: Node | None
) -> Child:
    """Start processes that do what the spec in their folder says.

    Args:
        processes: On this host.
        environment: Of each.
        lock: Of `held_lock`.
        node: Which host this is, of several.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *(node.arguments() if node else ALONE),
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


def team_environment(processes: int, threads: int, interface: str) -> dict[str, str]:
    """What the processes of this host read from the environment.

    Args:
        processes: On this host.
        threads: Of all of them.
        interface: Network interface through which they talk; empty: gloo looks up the host's name.
    """
    names = (
        ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
        if interface != "lo"
        else ("GLOO_SOCKET_IFNAME",)
    )
    chosen = dict.fromkeys(names, interface) if interface else {}
    return {**chosen, **os.environ, "OMP_NUM_THREADS": str(max(1, threads // processes))}


def clear(folder: Path) -> None:
    """Remove what an earlier attempt left, but for its lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def failures(folder: Path) -> list[Failure]:
    """The ranks that ended wrongly, here and elsewhere; empty where torchrun was ended itself."""
    text = (folder / LAUNCHER_LOG).read_text(encoding="utf-8", errors="replace")
    host = socket.gethostname()
    found = [
        Failure(rank=int(rank), status=int(status), host=host)
        for rank, status in FAILURE.findall(text)
    ]
    told = [one for path in folder.glob(ELSEWHERE) for one in json.loads(path.read_text())]
    return found + [Failure(**one) for one in told]


def report(folder: Path) -> dict[str, Any]:
    """What a host tells the first one of how its processes ended."""
    found = failures(folder)
    return {
        "failures": [asdict(one) for one in found],
        "errors": [one.read_text(encoding="utf-8") for one in folder.glob("error-*.json")],
        "lines": {str(one.rank): last_lines(folder, one.rank) for one in found},
    }


def take_report(folder: Path, host: str, told: Mapping[str, Any]) -> None:
    """Keep what another host told, as if it had happened here."""
    for number, error in enumerate(told.get("errors", [])):
        (folder / f"error-{host}-{number}.json").write_text(error, encoding="utf-8")
    for rank, lines in told.get("lines", {}).items():
        log = folder / RANK_LOGS / host / "attempt_0" / rank / "stderr.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(lines, encoding="utf-8")
    found = json.dumps(told.get("failures", []))
    (folder / ELSEWHERE.replace("*", host)).write_text(found, encoding="utf-8")


def last_lines(folder: Path, rank: int | None) -> str:
    """The end of what a rank wrote on its standard error, or what torchrun did."""
    if rank is None:
        return tail(folder / LAUNCHER_LOG, LINES)
    logs = [*(folder / RANK_LOGS).glob(f"*/attempt_0/{rank}/stderr.log")]
    return tail(logs[0], LINES) if logs else "    (no log)"
