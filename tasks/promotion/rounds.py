"""Promotion in a loop: the policy of each round is put up once, however often the run is resumed.

A resumed run begins at the top. Were the policies of finished rounds put up again, an old one would
meet the champion that a later round made.
"""

from collections.abc import Callable

from tasks.comparison.rounds import Promoted
from tasks.promotion.promotion import Promotion
from tasks.registry.registration import Registration
from tasks.registry.versions import PROMOTED, PROMOTION, ModelVersion, version_of
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.run.reporting import run_logger
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import tagged


def promote_once(
    policy: StageRef, pipeline: PipelineRun, promote: Callable[[str], Promotion]
) -> Promoted:
    """Put a policy up for promotion unless that was decided before, and say how it ended.

    Args:
        policy: A registered one.
        promote: Puts up the version of this address.

    Raises:
        ModelError: As `tasks/promotion/promotion.py` has it.
    """
    version = _version(policy, pipeline)
    if version is None:
        if planning() is None:
            run_logger().warning(
                "%s %s is not in the model registry, so it could not be promoted; run `quartet "
                "sync`, then `quartet promote`", policy.stage, policy.digest[:12],
            )  # fmt: skip
        return ""
    before = _decided(version.tags.get(PROMOTION, ""))
    if before or planning() is not None:
        return before
    return _decided(promote(version.uri).result)


def _decided(said: str) -> Promoted:
    if said in (PROMOTED, "unchanged"):
        return "promoted"
    return "rejected" if said == "rejected" else ""


def _version(policy: StageRef, pipeline: PipelineRun) -> ModelVersion | None:
    name = Registration(
        stage=policy.stage, digest=policy.digest, preset=pipeline.preset, pipeline=pipeline.name
    ).name
    settings = load_settings()
    if not settings.tracking_uri and not (settings.root / "mlflow.db").exists():
        return None  # making one takes seconds
    with tolerated(f"the look for {name}"):
        tracker = Tracker(settings)
        tracker.require(patient=planning() is None)
        here = f"name = '{name}' and {tagged({'quartet.digest': policy.digest})}"
        return next(map(version_of, tracker.versions(here)), None)
    return None
