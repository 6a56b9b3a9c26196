"""Published stages that another machine made: from MLflow into the store, verified.

Workers on several machines that share an MLflow server therefore need no shared disk.
"""

import shutil
from pathlib import Path

from models.errors import StoreError
from tasks.results.digests import DIGEST
from tasks.results.manifests import find_manifest
from tasks.results.store import Manifest, StageRef, Store, verify
from tasks.run.reporting import run_logger
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.removal import weights_removed


def fetch_published(store: Store, tracker: Tracker, stage: str, digest: str) -> Manifest | None:
    """Take a published stage from MLflow into the store.

    The caller holds the stage's lock.

    Returns:
        Its manifest; None where MLflow does not have it or cannot be reached.

    Raises:
        StoreError: The copy in MLflow is damaged.
    """
    with tolerated(f"the look for a finished {stage}"):
        run_id = tracker.find_published(digest)
        if run_id is None:
            if date := weights_removed(tracker, digest):
                run_logger().info(
                    "%s %s: its weights were removed on %s; made again", stage, digest[:12], date
                )
            return None
        scratch = store.writing(stage, digest)
        fetched = tracker.fetch_published(run_id, scratch)
        try:
            manifest = verify(fetched, stage, digest)
        except StoreError as error:
            raise StoreError(
                f"the copy of {stage} {digest[:12]} in MLflow run {run_id} is damaged ({error}); "
                "delete that run in MLflow to have the stage computed again"
            ) from error
        store.publish(fetched, stage, digest)
        shutil.rmtree(scratch)
        return manifest
    return None


def published_metrics(
    store: Store, settings: Settings, stage: str, digest: str
) -> dict[str, float] | None:
    """The metrics of a published stage, here or in MLflow; nothing is fetched.

    Returns:
        None where there is none; of what only an MLflow that is away holds, nobody knows.

    Raises:
        StoreError: A file of the published stage is missing or has another size.
    """
    folder = store.folder(stage, digest)
    if folder.exists():
        return verify(folder, stage, digest, contents=False).metrics
    if not settings.tracking_uri and not (settings.root / "mlflow.db").exists():
        return None
    with tolerated(f"the look for a finished {stage}"):
        tracker = Tracker(settings)
        run_id = tracker.find_published(digest) if tracker.reachable() else None
        return None if run_id is None else tracker.metrics(run_id)
    return None


def published_folder(ref: StageRef) -> Path:
    """Where a published stage lies, whole and verified.

    Raises:
        StoreError: It is missing or damaged.
    """
    return Store(load_settings().store).open(ref)


def open_published(stage: str, digest: str) -> StageRef:
    """Find a published stage by its digest or the digest's beginning; a whole one also in MLflow.

    Raises:
        StoreError: Nothing or more than one stage goes by that name, or it is damaged.
    """
    settings = load_settings()
    store = Store(settings.store)
    if DIGEST.fullmatch(digest) and not store.folder(stage, digest).exists():
        tracker = Tracker(settings)
        with store.lock(stage, digest, on_wait=lambda: None):
            if not store.folder(stage, digest).exists() and tracker.reachable():
                _want_weights(fetch_published(store, tracker, stage, digest), tracker, digest)
    return store.resolve(f"{stage}/{digest}")


def _want_weights(found: Manifest | None, tracker: Tracker, digest: str) -> None:
    if found is None and (date := weights_removed(tracker, digest)):
        raise StoreError(
            f"the weights of {digest[:12]} were removed on {date} by `quartet gc --keep-days`; run "
            "its pipeline again with the same settings, which computes the same under this digest"
        )


def open_input(ref: StageRef, role: str) -> StageRef | None:
    """Find the published stage that a stage was made from; None if it is not known any more.

    Args:
        role: As its manifest has it: `base`, `reference`, `reward_model`, `prompts`.

    Raises:
        StoreError: One of the two is damaged.
    """
    settings = load_settings()
    store, tracker = Store(settings.store), Tracker(settings)
    manifest = store.find(ref.stage, ref.digest)
    digest = manifest.inputs.get(role, "") if manifest else ""
    if not DIGEST.fullmatch(digest):
        return None
    made = find_manifest(store.root, digest)
    stage = made.stage if made else None
    if made is None:
        with tolerated(f"the look for the {role} of {ref.stage}"):
            run_id = tracker.find_published(digest) if tracker.reachable() else None
            stage = tracker.tags(run_id).get("quartet.stage") if run_id else None
    return open_published(stage, digest) if stage else None
