"""Weights and samples of old runs, removed where nobody needs them; what was found out stays.

Kept are the stages that runs of the last days name, accepted policies, models with an alias, what a
person pinned by the tag `quartet.pinned` of a run or a version, what a run needs that waits for
people, whatever MLflow does not know, and all that any of these was made from. Data, tokenizers and
labels are no weights and stay as well.

A stage's weights lie in the store, with the run that published them, and with each version that is
registered. The runs and versions are tagged with the date first, then the files go: cut off, the
next call begins it again. Parameters, curves, numbers, verdicts, reports and manifests stay in
MLflow, and a run that needs the stage computes it again, under the same digest.
"""

import datetime
import time
from collections.abc import Iterable, Iterator, Sequence

from models.evaluation.result import SAMPLES
from tasks.catalogue import entry
from tasks.results.manifests import Entry, list_entries, read_manifest
from tasks.results.store import Manifest
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.queries import named_digests
from tasks.tracking.removal import logged_models, remove_weights, wanted_by_people
from tasks.upkeep.references import References
from tasks.upkeep.sweeping import (
    DAY_SECONDS,
    Item,
    Keys,
    age_days,
    held_by_others,
    reach,
    remove_folder,
    size_of,
    sweep,
)  # fmt: skip

WEIGHTS = ".safetensors"


def find_old(settings: Settings, *, keep_days: float, accepted: bool = False) -> tuple[Item, ...]:
    """Find the weights that may go; nothing is changed.

    Args:
        keep_days: Stages that runs of so many days name are kept.
        accepted: Whether accepted policies may go too.

    Raises:
        QuartetError: MLflow does not answer, so that nobody knows what is needed.
    """
    entries = list(list_entries(settings.store))
    return _judge(settings, entries, set(), keep_days, accepted)


def remove_old(
    settings: Settings, items: Sequence[Item], *, keep_days: float, accepted: bool = False
) -> list[Item]:
    """Remove and return what was found, but for what has come into use since.

    Raises:
        QuartetError: MLflow does not answer; what was removed before stays removed.
    """
    tracker = Tracker(settings)

    def judge(entries: Sequence[Entry], ours: Keys) -> Iterable[Item]:
        return _judge(settings, entries, ours, keep_days, accepted)

    return sweep(settings.store, items, judge, lambda item: _remove(tracker, item))


def _judge(
    settings: Settings, entries: Sequence[Entry], ours: Keys, days: float, accepted: bool
) -> tuple[Item, ...]:
    tracker = Tracker(settings)
    references = References(settings, tracker)
    if references.running:  # a run may be about to reuse anything
        return ()
    manifests = {
        one.digest: (one, known)
        for one in entries
        if not one.suffix and (known := read_manifest(one.path)) is not None
    }
    inputs = {digest: set(known.inputs.values()) for digest, (_, known) in manifests.items()}
    with references.asking():
        roots = references.noted | _named_since(
            tracker, references, time.time() - days * DAY_SECONDS
        )
        roots |= wanted_by_people(tracker, references.experiments)
    roots |= {one for one, (at, _) in manifests.items() if age_days(at.path) < days}
    if not accepted:
        roots |= {one for _, known in manifests.values() for one in _accepts(known)}
    kept = reach(set(roots), inputs)
    held = held_by_others((one for one in entries if one.digest not in kept), ours)
    kept |= reach({digest for _, digest in held}, inputs)
    old = [
        (at, known)
        for digest, (at, known) in manifests.items()
        if digest not in kept and _is_heavy(known) and not _judged(known) & kept
    ]
    # Runs that MLflow has, and nobody deleted, keep what was found out.
    made_by = {known.run_id for _, known in old} - references.deleted - {""}
    made_by -= references.never_had(sorted(made_by))
    return tuple(
        Item(
            path=at.path,
            stage=at.stage,
            digest=at.digest,
            what="samples" if entry(at.stage).final else "weights",
            age_days=age_days(at.path),
            size=_size(tracker, at, known),
            why="old, and nothing that stays was made from it",
        )
        for at, known in old
        if known.run_id in made_by
    )


def _named_since(tracker: Tracker, references: References, since: float) -> set[str]:
    where = f"attributes.start_time >= {int(1000 * since)}"
    found = tracker.runs(where, experiments=references.experiments)
    return {digest for run in found for digest in named_digests(run.data.tags)}


def _accepts(manifest: Manifest) -> Iterator[str]:
    """The policies that a stage says are accepted, and itself."""
    if manifest.metrics.get("final/accepted"):
        yield from (manifest.digest, *_judged(manifest))


def _judged(manifest: Manifest) -> set[str]:
    return set(entry(manifest.stage).judged(manifest.inputs))


def _is_heavy(manifest: Manifest) -> bool:
    """Whether a stage has weights, or the samples of an evaluation."""
    samples = entry(manifest.stage).final and SAMPLES in manifest.files
    return samples or any(name.endswith(WEIGHTS) for name in manifest.files)


def _dropped(manifest: Manifest) -> dict[str, int]:
    """Files and folders that MLflow need not keep, and their bytes: networks and samples."""
    sizes: dict[str, int] = {}
    for name, file in manifest.files.items():
        top = name.split("/")[0]
        if top != name or name == SAMPLES:
            sizes[top] = sizes.get(top, 0) + file.size
    return sizes


def _size(tracker: Tracker, at: Entry, manifest: Manifest) -> int:
    """Bytes in the store, with the run that published them, and with versions."""
    sizes = _dropped(manifest)
    copies = len(logged_models(tracker, at.digest))
    return size_of(at.path) + sum(sizes.values()) + copies * sizes.get("model", 0)


def _remove(tracker: Tracker, item: Item) -> bool:
    manifest = read_manifest(item.path)
    if manifest is None:
        return False
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    remove_weights(tracker, item.digest, sorted(_dropped(manifest)), date)
    return remove_folder(item.path)
