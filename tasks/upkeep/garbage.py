"""What lies in the store and nothing refers to any more: found, and removed without a gap.

Referred to is whatever can be reached, through the inputs of manifests, from a registered model
version, from the stages of a pipeline run in MLflow that nobody has deleted, from a note that
waits for `quartet sync`, or from a lock that is held. Where something is not known it is kept: a
stage whose run this MLflow never had, a folder whose manifest cannot be read, and every published
stage while a pipeline runs, which may be about to reuse it.

To remove, the locks are taken first, then references are read again, then each folder is renamed
away and emptied. Whoever looks for a stage takes its lock, so nobody can have found what is
removed: a run that did so before either still runs, or has left its reference.

Caches go by age alone: whoever reads one holds it open, whoever misses one makes it again.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.results.manifests import Entry, list_entries, read_manifest
from tasks.results.store import MANIFEST, Manifest
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder
from tasks.upkeep.references import LOOKED_UP, References

logger = logging.getLogger(__name__)

CACHES = {"tokens": "texts as tokens"}
UNFINISHED = {"partial": "checkpoints", "writing": "half a result", "removed": "a removed stage"}
DAY_SECONDS = 86400.0
BATCH = 100
"""Locks held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that can go.

    Attributes:
        what: Kind of thing, in words.
        age_days: Since it last changed.
        size: In bytes.
        why: Reason, in words.
    """

    path: Path
    stage: str
    digest: str
    what: str
    age_days: float
    size: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What can go, and what was kept because too little is known of it.

    Attributes:
        notices: Sentences for people.
        older_than_days: Younger unfinished work and caches are kept.
    """

    items: tuple[Item, ...]
    notices: tuple[str, ...]
    older_than_days: float


def find_garbage(settings: Settings, *, older_than_days: float) -> Garbage:
    """Find what nothing refers to; nothing is changed.

    Args:
        older_than_days: Unfinished work and caches that changed more recently are kept.

    Raises:
        QuartetError: MLflow does not answer, so that nobody knows what is referred to.
    """
    entries = list(list_entries(settings.store))
    return _judge(settings, entries, _held_by_others(entries, set()), older_than_days)


def remove_garbage(settings: Settings, garbage: Garbage) -> list[Item]:
    """Remove and return what was found, but for what has come into use or changed since.

    Raises:
        QuartetError: MLflow does not answer; what was removed before stays removed.
    """
    removed: list[Item] = []
    wanted = {item.path: item for item in garbage.items}
    for start in range(0, len(garbage.items), BATCH):
        batch = {item.path for item in garbage.items[start : start + BATCH]}
        with contextlib.ExitStack() as locks:
            entries = list(list_entries(settings.store))
            mine = dict.fromkeys(one.key for one in entries if one.path in batch)
            ours = {key for key in mine if _try_lock(locks, settings.store, key)}
            held = _held_by_others(entries, ours)
            still = _judge(settings, entries, held, garbage.older_than_days)
            paths = [item.path for item in still.items if item.path in batch]
            removed += [wanted[path] for path in paths if _remove(path)]
    for item in removed:
        if not (settings.store / item.stage / item.digest).exists():  # its page goes with it
            page = page_folder(settings.root, item.stage, item.digest)
            shutil.rmtree(page, ignore_errors=True)
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


def _held_by_others(entries: Iterable[Entry], ours: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Stages whose run lives; one lock is tried at a time, each once."""
    held = set()
    for key, root in {one.key: one.path.parents[1] for one in entries}.items():
        with contextlib.ExitStack() as lock:
            if key not in ours and not _try_lock(lock, root, key):
                held.add(key)
    return held


def _judge(
    settings: Settings, entries: Sequence[Entry], held: set[tuple[str, str]], days: float
) -> Garbage:
    references = References(settings, Tracker(settings))
    manifests = {one.path: read_manifest(one.path) for one in entries if not one.suffix}
    inputs: dict[str, set[str]] = {}
    for manifest in manifests.values():
        if manifest is not None:
            inputs.setdefault(manifest.digest, set()).update(manifest.inputs.values())
    # A run refers to what it made. Of one made while MLflow was away, another may know it as well.
    made = {one.digest: one.run_id for one in manifests.values() if one}
    kept = {digest for digest, run_id in made.items() if run_id not in references.deleted}
    reached = _reach({digest for _, digest in held} | kept, inputs)
    for digest in _consumers_first({one.digest for one in entries}, inputs):
        if digest not in reached and references.name(digest):
            reached |= _reach({digest}, inputs)
    taken = set().union(*inputs.values())
    last = [made[one] for one in sorted(kept - taken) if made[one]]
    whole = {one.key for one in entries if not one.suffix}
    items = []
    for one in entries:
        if one.key in held:
            continue
        with contextlib.suppress(FileNotFoundError):  # its run has moved it meanwhile
            if one.suffix:
                why = _why_unfinished(one, reached, days, published=one.key in whole)
            else:
                known = manifests[one.path] is not None and one.digest not in reached
                why = "nothing refers to it" if known and not references.running else ""
            if why:
                items.append(_item(one, UNFINISHED.get(one.suffix, "published stage"), why))
    for one in list_entries(settings.cache):
        with contextlib.suppress(FileNotFoundError):  # another `quartet gc` is at it
            if one.stage in CACHES and (one.suffix == "removed" or _age_days(one.path) >= days):
                items.append(_item(one, CACHES[one.stage], "not used lately; made again if needed"))
    notices = _notices(references, references.never_had(last), manifests.values())
    return Garbage(items=tuple(items), notices=tuple(notices), older_than_days=days)


def _item(one: Entry, what: str, why: str) -> Item:
    return Item(
        path=one.path,
        stage=one.stage,
        digest=one.digest,
        what=what,
        age_days=_age_days(one.path),
        size=sum(at.lstat().st_size for at in one.path.rglob("*") if at.is_file()),
        why=why,
    )


def _why_unfinished(one: Entry, reached: set[str], days: float, *, published: bool) -> str:
    if one.suffix == "removed":
        return "its removal was cut off"
    if _age_days(one.path) < days:
        return ""
    if one.suffix == "writing":
        return "its writer is gone"
    if published:
        return "its stage has finished since"
    return "" if one.digest in reached else "no run resumes from it"


def _notices(
    references: References, foreign: Sequence[str], manifests: Iterable[Manifest | None]
) -> list[str]:
    messages = []
    if references.running:
        messages.append(
            f"published stages are kept while there are runs that may reuse them: "
            f"{', '.join(references.running)}; a run that was killed is closed by `quartet sync`"
        )
    if foreign:
        least = "at least " if len(foreign) == LOOKED_UP else ""
        messages.append(
            f"kept {least}{len(foreign)} stages, and what they were made from: the MLflow at "
            f"{references.uri} never had the runs that made them, so another may refer to them"
        )
    damaged = sum(manifest is None for manifest in manifests)
    if damaged:
        messages.append(f"kept {damaged} folders whose {MANIFEST} cannot be read; look at them")
    return messages


def _reach(roots: set[str], inputs: dict[str, set[str]]) -> set[str]:
    """Everything that something was made from, itself included."""
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in reached:
            reached.add(digest)
            waiting += inputs.get(digest, ())
    return reached


def _consumers_first(digests: set[str], inputs: dict[str, set[str]]) -> list[str]:
    """Order digests so that few are asked about: what was made from others comes before them."""
    depths: dict[str, int] = {}

    def depth(digest: str) -> int:
        if digest not in depths:
            depths[digest] = 0  # ends the walk where a store was tampered with to make a ring
            depths[digest] = 1 + max(map(depth, inputs.get(digest, ())), default=-1)
        return depths[digest]

    return sorted(digests, key=lambda digest: (-depth(digest), digest))


def _age_days(folder: Path) -> float:
    times = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
    return max(0.0, time.time() - max(times)) / DAY_SECONDS


def _remove(path: Path) -> bool:
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
