"""What each part of a home folder weighs, and how much of it is new."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.settings import Settings

DAYS = 30
"""Growth is told of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a home folder.

    Attributes:
        size: In bytes.
        newer: Bytes of files that changed in the last DAYS; None of a database, one file for all.
    """

    name: str
    size: int
    newer: int | None = None


def weigh(settings: Settings) -> list[Part]:
    """Weigh what is on this machine; servers elsewhere, and what is not there yet, are left out."""
    root = settings.root
    folders = {
        "store": settings.store,
        "MLflow's files": root / "mlflow-artifacts",
        "caches": settings.cache,
    }
    databases = {"MLflow's database": "mlflow.db", "Prefect's database": "prefect.db"}
    since = time.time() - DAYS * 86_400
    parts = []
    for name, folder in folders.items():
        if folder.is_dir():
            files = list(_files(folder))
            newer = sum(size for size, changed in files if changed >= since)
            parts.append(Part(name=name, size=sum(size for size, _ in files), newer=newer))
    for name, file in databases.items():
        if found := list(root.glob(f"{file}*")):  # with its journal
            parts.append(Part(name=name, size=sum(path.stat().st_size for path in found)))
    return parts


def _files(folder: Path | str) -> Iterator[tuple[int, float]]:
    """Size and last change of every file below a folder; what goes meanwhile is left out."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    known = entry.stat(follow_symlinks=False)
                    yield known.st_size, known.st_mtime
    except FileNotFoundError:
        return
