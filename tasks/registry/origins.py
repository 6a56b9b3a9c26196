"""What a policy was made from, also where its own stage does not name it."""

from tasks.results.manifests import list_published
from tasks.results.store import StageRef, Store
from tasks.run.exchange import open_input, open_published
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated


def open_origin(policy: StageRef, role: str) -> StageRef | None:
    """Find what a policy was made from, as `open_input`; for DPO the reward model that judged it.

    Raises:
        StoreError: One of the stages is damaged.
    """
    found = open_input(policy, role)
    evaluation = _evaluation_of(policy) if found is None and role == "reward_model" else None
    return found if evaluation is None else open_input(evaluation, role)


def _evaluation_of(policy: StageRef) -> StageRef | None:
    """The newest one in the store, else in MLflow."""
    settings = load_settings()
    for _, made in reversed(list(list_published(Store(settings.store).root, "evaluate"))):
        if made.inputs.get("policy") == policy.digest:
            return open_published(made.stage, made.digest)
    with tolerated(f"the look for an evaluation of {policy.stage}"):
        tracker = Tracker(settings)
        tags = {"quartet.stage": "evaluate", "input.policy": f"{policy.stage}/{policy.digest}"}
        for run_id in tracker.find_tagged(tags, status="FINISHED") if tracker.reachable() else ():
            return open_published("evaluate", tracker.tags(run_id)["quartet.digest"])
    return None
