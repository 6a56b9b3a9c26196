"""Removing from the store without a gap: locks first, then the judgement again, then each folder.

Whoever looks for a stage takes its lock, so nobody can have found what is removed: a run that did
so before either still runs, or has left its reference.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock, Timeout

from tasks.results.manifests import Entry, list_entries

logger = logging.getLogger(__name__)

DAY_SECONDS, MIB = 86400.0, 2**20
BATCH = 100
"""Locks held at once."""

Keys: TypeAlias = set[tuple[str, str]]
"""Stages by name and digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that can go.

    Attributes:
        what: Kind of thing, in words.
        age_days: Since it last changed.
        size: In bytes, of all copies that go.
        why: Reason, in words.
    """

    path: Path
    stage: str
    digest: str
    what: str
    age_days: float
    size: int
    why: str


def in_mib(items: Iterable[Item]) -> str:
    """What items hold together, in words."""
    return f"{sum(item.size for item in items) / MIB:.1f} MiB"


def sweep(
    store: Path,
    items: Sequence[Item],
    judge: Callable[[Sequence[Entry], Keys], Iterable[Item]],
    remove: Callable[[Item], bool],
) -> list[Item]:
    """Remove and return what was found, but for what has come into use or changed since.

    Args:
        judge: What may go, of all folders, while the locks of some stages are held here.
        remove: Removes one; False where it cannot.
    """
    removed: list[Item] = []
    for start in range(0, len(items), BATCH):
        batch = {item.path: item for item in items[start : start + BATCH]}
        with contextlib.ExitStack() as locks:
            entries = list(list_entries(store))
            mine = dict.fromkeys(one.key for one in entries if one.path in batch)
            ours = {key for key in mine if _try_lock(locks, store, key)}
            still = judge(entries, ours)
            paths = [item.path for item in still if item.path in batch]
            removed += [batch[path] for path in paths if remove(batch[path])]
    return removed


def _try_lock(locks: contextlib.ExitStack, root: Path, key: tuple[str, str]) -> bool:
    """Take the lock of a stage until the stack closes; False if its run lives."""
    lock = FileLock(root / key[0] / f"{key[1]}.lock")
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    locks.callback(lock.release)
    return True


def held_by_others(entries: Iterable[Entry], ours: Keys) -> Keys:
    """Stages whose run lives; one lock is tried at a time, each once."""
    held = set()
    for key, root in {one.key: one.path.parents[1] for one in entries}.items():
        with contextlib.ExitStack() as lock:
            if key not in ours and not _try_lock(lock, root, key):
                held.add(key)
    return held


def reach(roots: set[str], inputs: Mapping[str, set[str]]) -> set[str]:
    """Everything that something was made from, itself included."""
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in reached:
            reached.add(digest)
            waiting += inputs.get(digest, ())
    return reached


def age_days(folder: Path) -> float:
    """Days since anything in a folder changed."""
    times = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
    return max(0.0, time.time() - max(times)) / DAY_SECONDS


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(at.lstat().st_size for at in folder.rglob("*") if at.is_file())


def remove_folder(path: Path) -> bool:
    """Give a folder a name that nobody looks for, in one step, then empty it; False on failure."""
    away = path.with_name(f"{path.name.split('.')[0]}.removed")
    try:
        if path != away:
            if away.exists():
                shutil.rmtree(away)
            path.rename(away)
    except OSError as error:
        logger.warning("%s cannot be removed: %s", path, error)
        return False
    try:
        if away.exists():  # else it went as a leftover before the next of its name
            shutil.rmtree(away)
    except OSError as error:
        logger.warning("%s cannot be emptied, the next `quartet gc` tries again: %s", away, error)
        return False
    return True
