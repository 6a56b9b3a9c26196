"""Published stages that another machine made: from MLflow into the store, verified.

Workers on several machines that share an MLflow server therefore need no shared disk.
"""

import shutil

from models.errors import StoreError
from tasks.results.store import Manifest, Store, verify
from tasks.tracking.client import Tracker, tolerated


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
