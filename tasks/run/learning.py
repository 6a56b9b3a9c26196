"""How a stage's training is called: here, or in several processes that learn together.

With one process the function is called as it stands. With more, torchrun starts them under a
guardian (`tasks/machine/teams.py`), and each calls the function with the same arguments
(`models/distributed/worker.py`). Nothing but files crosses: `spec.json` there; back comes
`log.jsonl`, whose steps and log lines are taken over as they appear, and last the result or the
error. A signal or a time limit strikes here, is passed on, and goes its way when all have left.
Processes of other hosts are waited for (`tasks/machine/hosts.py`).
"""

import builtins
import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from models import errors
from models.distributed.records import from_plain, full_name, to_plain
from models.errors import TeamError
from models.runtime import Log, TrainingRun, ignore
from tasks.machine.hosts import Hosts, Offer, gathered_hosts
from tasks.machine.rendezvous import SILENT_SECONDS
from tasks.machine.teams import (
    clear,
    failures,
    held_lock,
    last_lines,
    start_team,
    team_environment,
)
from tasks.results.code import code_digest
from tasks.results.curves import read_history
from tasks.results.digests import library_versions
from tasks.run.reporting import run_logger
from tasks.run.scale import Scale
from tasks.settings import load_settings

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = "team"
"""Folder of a stage's partial folder: what the processes are given, and what they say."""

SPEC, LOG = "spec.json", "log.jsonl"
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 600.0
"""After them a process that waits for the others gives up."""

SILENCE = re.compile("Timed out waiting|Watchdog caught collective operation timeout")
"""What torch says where one process did not answer the others in time."""

LOST = re.compile("gloo|NCCL|[Cc]onnection (reset|closed)")
"""What it says where another process is gone."""

RESUME = "nothing is lost but the steps since the last checkpoint: run again to resume from there"


class Learner:
    """Calls a stage's training, and remembers what its processes took."""

    def __init__(self, scale: Scale, partial: Path, device: str) -> None:
        """Call within a stage's partial folder.

        Args:
            device: As torch calls it.
        """
        self.scale = scale
        self.peak_bytes = 0
        self.used = False
        self._partial, self._folder = partial, partial / FOLDER
        self._device = device

    def learn(self, function: Callable[P, R], *args: P.args, **arguments: P.kwargs) -> R:
        """Call a function of models/; in several processes its arguments must be plain.

        Raises:
            QuartetError: What the function raised on purpose.
            TeamError: A process was killed, or did not answer the others.
        """
        self.used = True
        if self.scale.processes == 1:
            return function(*args, **arguments)
        if args:
            raise TypeError("what several processes are given is named")
        given: Mapping[str, Any] = arguments
        runs = [one for one in given.values() if isinstance(one, TrainingRun)]
        found: R = self._in_processes(function, given, runs[0].log if runs else ignore)
        return found

    def used_scale(self) -> dict[str, int | str]:
        """What the manifest says of the processes; nothing where nothing was called."""
        return self.scale.described(self._device) if self.used else {}

    def _in_processes(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], log: Log
    ) -> Any:
        logger = run_logger()

        def say_waiting() -> None:
            logger.info("processes of an earlier attempt have not left yet; waiting")

        follower, spec = _Follower(self._folder / LOG, log), self._folder / SPEC
        with self._hosts(function, arguments) as hosts:
            with held_lock(self._folder, on_wait=say_waiting) as lock:
                self._catch_up(log)
                clear(self._folder)
                spec.write_text(json.dumps(self._spec(function, arguments), indent=1))
                hosts.wait()
                child = start_team(
                    spec,
                    processes=self.scale.here,
                    environment=team_environment(self.scale.here, self._threads, hosts.interface),
                    lock=lock,
                    node=hosts.node,
                )
            logger.info(
                "%d processes learn together; their logs: %s", self.scale.processes, spec.parent
            )
            try:
                while child.ended() is None and not hosts.fewer:
                    follower.take_over()
                    time.sleep(POLL_SECONDS)
            except BaseException:
                from models.distributed.interruption import Interruption  # imports torch

                with Interruption() as signals, signals.held():
                    child.stop(lambda: signals.requested)
                    with contextlib.suppress(Exception):
                        follower.take_over()
                raise
            child.stop(lambda: hosts.fewer)  # its pipe is closed
            with held_lock(self._folder, on_wait=say_waiting):  # where the guardian was killed
                follower.take_over()
            hosts.end(self._folder, done=follower.result is not None)
        self.peak_bytes = max(self.peak_bytes, follower.peak_bytes)
        if follower.result is not None:
            return from_plain(follower.result[0])
        if hosts.lost:
            raise TeamError(
                f"host {hosts.lost} has given no sign of life for {SILENT_SECONDS:.0f} s, and the "
                f"other processes were ended; {RESUME}"
            )
        raise _what_happened(self._folder)

    @property
    def _threads(self) -> int:
        import torch

        return torch.get_num_threads()

    def _hosts(
        self, function: Callable[..., Any], arguments: Mapping[str, Any]
    ) -> AbstractContextManager[Hosts]:
        """The hosts that the settings want; others are offered what they need to take part."""
        settings = load_settings()
        several = self.scale.nodes > 1
        offer = Offer(
            spec=self._spec(function, arguments),
            stage=self._partial.parent.name,
            digest=self._partial.stem,
            store=str(settings.store),
            cache=str(settings.cache),
            code=code_digest(function.__module__) if several else "",
            libraries=library_versions(),
            processes=self.scale.here,
            nodes=self.scale.nodes,
        )
        checkpoints = self._partial / "checkpoints"
        return gathered_hosts(settings.rendezvous, offer, checkpoints, run_logger().info)

    def _spec(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "function": full_name(function),
            "arguments": to_plain(dict(arguments)),
            "device": self._device,
            "sharding": self.scale.sharding,
            "tensor_parallel": self.scale.tensor_parallel,
            "threads": max(1, self._threads // self.scale.here),
            "timeout_seconds": TIMEOUT_SECONDS,
        }

    def _catch_up(self, log: Log) -> None:
        """Take over the last steps of an attempt that was killed before it could."""
        curves = read_history(self._partial)
        known = max((points[-1][0] for points in curves.values()), default=-1)
        for entry in _entries((self._folder / LOG), 0):
            if entry.get("step", -1) >= known and "metrics" in entry:
                log(entry["metrics"], entry["step"])


class _Follower:
    """Reads what the first rank says as it appears."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path, self._log = path, log
        self._at = 0
        self.result: tuple[Any] | None = None
        self.peak_bytes = 0

    def take_over(self) -> None:
        """Hand on what is new: steps to the stage's log, lines to the loggers they came from."""
        for entry in _entries(self._path, self._at):
            self._at = entry["end"]
            if "metrics" in entry:
                self._log(entry["metrics"], entry["step"])
            elif "text" in entry:
                logging.getLogger(entry["logger"]).log(entry["level"], "%s", entry["text"])
            elif "result" in entry:
                self.result, self.peak_bytes = (entry["result"],), entry["peak_bytes"]


def _entries(path: Path, start: int) -> Iterator[dict[str, Any]]:
    """The whole lines of a log from a byte on, each with where it ends."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            start += len(line)
            if line.endswith(b"\n"):
                yield json.loads(line) | {"end": start}


def _what_happened(folder: Path) -> Exception:
    """The error with which a team ended: that of the rank with which it began."""
    told = [json.loads(one.read_text(encoding="utf-8")) for one in folder.glob("error-*.json")]
    first = min(told, key=lambda one: float(one["time"]), default=None)
    lost = first is None or LOST.search(first["text"]) is not None
    spoke = {one["rank"] for one in told}
    silent = [one for one in failures(folder) if one.rank not in spoke]
    silent.sort(key=lambda one: not one.killed)
    waited = first["rank"] if first else silent[0].rank if silent else None
    end = f"The last lines in {folder}:\n{last_lines(folder, waited)}"
    if SILENCE.search(first["text"] if first else end):
        return TeamError(
            f"process {waited} waited {TIMEOUT_SECONDS / 60:g} minutes in vain for the others: one "
            f"of them hangs, or is much slower; {RESUME}. {end}"
        )
    if first is not None and not (lost and silent):
        error = _as_raised(first)
        who = "a process that could not join" if waited is None else f"process {waited}"
        error.add_note(f"In {who}:\n{first['trace']}")
        return error
    if silent:
        end = f"The last lines in {folder}:\n{last_lines(folder, silent[0].rank)}"
        hint = " (signal 9 is often the system's, for lack of memory)" if silent[0].killed else ""
        return TeamError(f"{silent[0]}, and the others were ended; {RESUME}{hint}. {end}")
    return TeamError(f"torchrun, which runs the processes, was ended; {RESUME}. {end}")


def _as_raised(told: Mapping[str, Any]) -> Exception:
    """Make an error of its own class again, if that is ours or Python's."""
    module, _, name = told["kind"].partition(":")
    kind = getattr({"builtins": builtins, errors.__name__: errors}.get(module), name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(TypeError):
            return kind(*told["arguments"])
    return RuntimeError(f"{name}: {told['text']}")
