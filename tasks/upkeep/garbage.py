"""What lies in the store and nothing refers to any more: found, and removed without a gap.

Referred to is whatever can be reached, through the inputs of manifests, from a registered model
version, from the stages of a pipeline run in MLflow that nobody has deleted, from a note that
waits for `quartet sync`, or from a lock that is held. Where something is not known it is kept: a
stage whose run this MLflow never had, a folder whose manifest cannot be read, and every published
stage while a pipeline runs, which may be about to reuse it.

Caches go by age alone: whoever reads or writes one holds it open, whoever misses one makes it
again.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from models.rows import write_json
from tasks.results.manifests import Entry, list_entries, read_manifest
from tasks.results.store import MANIFEST, Manifest
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder
from tasks.tracking.removal import LOOKED_UP
from tasks.upkeep.references import References
from tasks.upkeep.sweeping import (
    Item,
    Keys,
    age_days,
    held_by_others,
    reach,
    remove_folder,
    size_of,
    sweep,
)

CACHES = {"tokens": "texts as tokens", "code": "digests of code"}
NOTE = "garbage.json"
UNFINISHED = {"partial": "checkpoints", "writing": "half a result", "removed": "a removed stage"}


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
    """Find what nothing refers to, and note how much it is; nothing else is changed.

    Args:
        older_than_days: Unfinished work and caches that changed more recently are kept.

    Raises:
        QuartetError: MLflow does not answer, so that nobody knows what is referred to.
    """
    found = _judge(settings, list(list_entries(settings.store)), set(), older_than_days)
    write_json(
        settings.root / NOTE, {"at": time.time(), "size": sum(one.size for one in found.items)}
    )
    return found


def last_found(settings: Settings) -> tuple[float, int] | None:
    """When somebody looked for garbage last, in seconds of the clock, and how many bytes it was."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        known = json.loads((settings.root / NOTE).read_bytes())
        return float(known["at"]), int(known["size"])
    return None


def remove_garbage(settings: Settings, garbage: Garbage) -> list[Item]:
    """Remove and return what was found, but for what has come into use or changed since.

    Raises:
        QuartetError: MLflow does not answer; what was removed before stays removed.
    """

    def judge(entries: Sequence[Entry], ours: Keys) -> Iterable[Item]:
        return _judge(settings, entries, ours, garbage.older_than_days).items

    removed = sweep(settings.store, garbage.items, judge, lambda item: remove_folder(item.path))
    for item in removed:
        if not (settings.store / item.stage / item.digest).exists():  # its page goes with it
            page = page_folder(settings.root, item.stage, item.digest)
            shutil.rmtree(page, ignore_errors=True)
    return removed


def _judge(settings: Settings, entries: Sequence[Entry], ours: Keys, days: float) -> Garbage:
    references = References(settings, Tracker(settings))
    manifests = {one.path: read_manifest(one.path) for one in entries if not one.suffix}
    inputs: dict[str, set[str]] = {}
    for manifest in manifests.values():
        if manifest is not None:
            inputs.setdefault(manifest.digest, set()).update(manifest.inputs.values())
    # A run refers to what it made. Of one made while MLflow was away, another may know it as well.
    made = {one.digest: one.run_id for one in manifests.values() if one}
    kept = {digest for digest, run_id in made.items() if run_id not in references.deleted}
    reached = reach(kept, inputs)
    asked = (one for one in entries if one.suffix or one.digest not in reached)
    held = held_by_others(asked, ours)
    reached |= reach({digest for _, digest in held}, inputs)
    for digest in _consumers_first({one.digest for one in entries}, inputs):
        if digest not in reached and references.name(digest):
            reached |= reach({digest}, inputs)
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
            if one.stage in CACHES and (one.suffix == "removed" or age_days(one.path) >= days):
                items.append(_item(one, CACHES[one.stage], "not used lately; made again if needed"))
    notices = _notices(references, references.never_had(last[:LOOKED_UP]), manifests.values())
    return Garbage(items=tuple(items), notices=tuple(notices), older_than_days=days)


def _item(one: Entry, what: str, why: str) -> Item:
    return Item(
        path=one.path,
        stage=one.stage,
        digest=one.digest,
        what=what,
        age_days=age_days(one.path),
        size=size_of(one.path),
        why=why,
    )


def _why_unfinished(one: Entry, reached: set[str], days: float, *, published: bool) -> str:
    if one.suffix == "removed":
        return "its removal was cut off"
    if age_days(one.path) < days:
        return ""
    if one.suffix == "writing":
        return "its writer is gone"
    if published:
        return "its stage has finished since"
    return "" if one.digest in reached else "no run resumes from it"


def _notices(
    references: References, foreign: Collection[str], manifests: Iterable[Manifest | None]
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


def _consumers_first(digests: set[str], inputs: dict[str, set[str]]) -> list[str]:
    """Order digests so that few are asked about: what was made from others comes before them."""
    depths: dict[str, int] = {}

    def depth(digest: str) -> int:
        if digest not in depths:
            depths[digest] = 0  # ends the walk where a store was tampered with to make a ring
            depths[digest] = 1 + max(map(depth, inputs.get(digest, ())), default=-1)
        return depths[digest]

    return sorted(digests, key=lambda digest: (-depth(digest), digest))
