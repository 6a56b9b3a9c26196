"""Folders of the store by what their names say, their manifests, and whose runs live."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tasks.results.store import MANIFEST, Manifest

ENTRY = re.compile(r"(?P<digest>[0-9a-f]{64})(?:\.(?P<suffix>partial|writing|removed))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder of the store, by what its name says."""

    path: Path
    stage: str
    digest: str
    suffix: str


def list_entries(root: Path) -> Iterator[Entry]:
    """Every folder of the store that Quartet made; links and strange names are left alone."""
    for path in sorted(root.glob("*/*")):
        match = ENTRY.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink() and not path.parent.is_symlink():
            yield Entry(
                path=path,
                stage=path.parent.name,
                digest=match["digest"],
                suffix=match["suffix"] or "",
            )


def list_published(root: Path, stage: str = "*") -> Iterator[tuple[Path, Manifest]]:
    """Folder and manifest of each published stage, oldest first; unreadable ones are left out.

    Args:
        root: Of the store.
        stage: Name of the stage; every stage by default.
    """
    found = []
    for path in root.glob(f"{stage}/*/{MANIFEST}"):
        if "." in path.parent.name:  # half a result, or one that is being removed
            continue
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
            found.append((path.stat().st_mtime, path.parent, manifest))
        except (OSError, ValidationError):
            continue
    for _, folder, manifest in sorted(found, key=lambda one: one[:2]):
        yield folder, manifest


def key_of(one: Entry) -> tuple[str, str]:
    """What its lock goes by."""
    return one.stage, one.digest


def try_lock(locks: contextlib.ExitStack, root: Path, key: tuple[str, str]) -> bool:
    """Take the lock of a stage until the stack closes; False if its run lives."""
    lock = FileLock(root / key[0] / f"{key[1]}.lock")
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    locks.callback(lock.release)
    return True


def held_by_others(entries: Iterable[Entry], ours: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Stages whose run lives; one lock is tried at a time, each once."""
    held = set()
    for key, root in {key_of(one): one.path.parents[1] for one in entries}.items():
        with contextlib.ExitStack() as lock:
            if key not in ours and not try_lock(lock, root, key):
                held.add(key)
    return held
