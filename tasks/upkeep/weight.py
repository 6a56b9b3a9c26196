"""What each part of a home folder weighs, and how much of it is new."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.results.store import MANIFEST
from tasks.settings import Settings

STORE = "store"
DAYS = 30
"""Growth is told of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a home folder.

    Attributes:
        size: In bytes.
        newer: Bytes of files that changed in the last DAYS; None of a database, one file for all.
        stages: Published stages in it.
    """

    name: str
    size: int
    newer: int | None = None
    stages: int = 0


def weigh(settings: Settings) -> list[Part]:
    """Weigh what is on this machine; servers elsewhere, and what is not there yet, are left out."""
    root = settings.root
    folders = {
        STORE: settings.store,
        "MLflow's files": root / "mlflow-artifacts",
        "caches": settings.cache,
    }
    databases = {"MLflow's database": "mlflow.db", "Prefect's database": "prefect.db"}
    since = time.time() - DAYS * 86_400
    parts = []
    for name, folder in folders.items():
        if folder.is_dir():
            size, newer, stages = _weigh(folder, since)
            parts.append(Part(name=name, size=size, newer=newer, stages=stages))
    for name, file in databases.items():
        if found := list(root.glob(f"{file}*")):  # with its journal
            parts.append(Part(name=name, size=sum(path.stat().st_size for path in found)))
    return parts


def _weigh(folder: Path, since: float) -> tuple[int, int, int]:
    """Bytes below a folder, those that changed since, and manifests, as far as they stay there."""
    size = newer = manifests = 0
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    known = entry.stat(follow_symlinks=False)
                    size += known.st_size
                    manifests += entry.name == MANIFEST
                    if known.st_mtime >= since:
                        newer += known.st_size
    return size, newer, manifests
