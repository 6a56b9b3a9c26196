"""Notes that say who runs, each beside a lock that the kernel frees when its process dies.

A note is a small JSON file. While its process lives, however it was started, nobody else gets the
lock; a note whose lock is free was left by a process that was killed, or whose machine was.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from tasks.settings import Settings

RECONCILE_SECONDS = 60.0
"""Most time to wait for another process that reconciles what this run's earlier attempt left."""


class Note:
    """A JSON file `<name>.json` and the lock `<name>.lock` beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_suffix(".lock")
        self._lock = FileLock(self._lock_path)

    def take(self, *, wait_seconds: float = 0.0) -> bool:
        """Get the lock; False if its process lives."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=wait_seconds)
        except Timeout:
            return False
        return True

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the note, whole or not at all."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(dict(content)), encoding="utf-8")
        draft.replace(self.path)

    def read(self) -> dict[str, Any]:
        """What the note says; empty if it is gone or torn."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def let_go(self, *, keep: bool = False) -> None:
        """Free the lock; the files go too, unless somebody shall find the note."""
        if not keep:
            self.path.unlink(missing_ok=True)
            self._lock_path.unlink(missing_ok=True)
        self._lock.release()


def runs_folder(settings: Settings) -> Path:
    """Where the notes of running pipelines lie."""
    return settings.root / "runs"


def commands_folder(settings: Settings) -> Path:
    """Where the notes of commands lie that run flows in their own process."""
    return settings.root / "commands"


def is_dead(path: Path) -> bool:
    """Whether the process that left a note has ended; one of another machine has not."""
    if Note(path).read().get("host") != socket.gethostname():
        return False
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            return True
    except (Timeout, OSError):
        return False


def is_gone(settings: Settings, mlflow_run_id: str) -> bool:
    """Whether no process of this machine, nor one that left a note here, runs a pipeline."""
    path = runs_folder(settings) / f"{mlflow_run_id}.json"
    return not path.exists() or is_dead(path)


@contextlib.contextmanager
def command_announced(settings: Settings) -> Iterator[str]:
    """Note, while the block lasts, that this process runs flows; give a tag for their runs.

    A flow run exists before it can be noted by its id; its tag finds it from the first second.
    """
    tag = f"command-{uuid4().hex[:12]}"
    note = Note(commands_folder(settings) / f"{tag}.json")
    note.take()
    try:
        note.write({"tag": tag, "host": socket.gethostname(), "pid": os.getpid()})
        yield tag
    except BaseException:
        note.let_go(keep=True)
        raise
    note.let_go()


@contextlib.contextmanager
def announced(
    settings: Settings,
    mlflow_run_id: str,
    flow_run_id: str | None,
    suspensions: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Note, while the block lasts, that this process runs a pipeline.

    After an error or a signal the note stays: the next reconciliation looks up whether both
    servers know.

    Args:
        suspensions: What is raised to suspend the run; the note goes, for any machine may resume
            it.
    """
    note = Note(runs_folder(settings) / f"{mlflow_run_id}.json")
    if not note.take(wait_seconds=RECONCILE_SECONDS):
        yield  # whoever has the lock announces the same run
        return
    try:
        runs = {"flow_run_id": flow_run_id or "", "mlflow_run_id": mlflow_run_id}
        note.write(runs | {"host": socket.gethostname(), "pid": os.getpid()})
        yield
    except BaseException as end:
        note.let_go(keep=not isinstance(end, suspensions))
        raise
    note.let_go()
