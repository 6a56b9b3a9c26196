"""The held-out judge of a policy: a second reward model whose preferences its training never saw.

That it is held out is proved from manifests and not believed (`tasks/judging/independence.py`).
"""

from models.errors import ModelError
from tasks.judging.independence import is_held_out, split_of
from tasks.results.manifests import list_published
from tasks.results.store import Manifest, StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.stages.resolve import find_model
from tasks.tracking.client import Tracker, tolerated
from tasks.tracking.search import tagged


def find_judge(name: str, reward: StageRef, pipeline: PipelineRun) -> StageRef:
    """Find the judge that goes with a reward model.

    Args:
        name: stage/digest or models:/NAME@ALIAS of a judge; empty looks for one.
        reward: The reward model that the policy was trained with.
        pipeline: The run.

    Raises:
        ModelError: There is none that training never saw.
    """
    store = Store(load_settings().store)
    wanted = store.find(reward.stage, reward.digest)
    if wanted is None:
        store.open(reward)  # raises, naming the stage and the remedy
    assert wanted is not None
    if name:
        judge = find_model(name, role="judge", pipeline=pipeline)
        found = store.find(judge.stage, judge.digest)
        if found is None or not is_held_out(found, wanted):
            raise ModelError(
                f"{name} cannot be shown to be held out from the training of reward model "
                f"{reward.digest[:12]}; wanted a judge split from the same preferences, with the "
                "same seed and reward.judge_share: leave the name empty to have it found"
            )
        return judge
    for digest in _known(store, wanted):
        judge = find_model(f"judge/{digest}", role="judge", pipeline=pipeline)
        found = store.find(judge.stage, judge.digest)
        if found is not None and is_held_out(found, wanted):
            return judge
    _, share = split_of(wanted)
    told = f"reward.judge_share={share:g} but no judge of it" if share else "reward.judge_share=0"
    raise ModelError(
        "there is neither a gold judge for these prompts nor a held-out one that training never "
        f"saw: reward model {reward.digest[:12]} was trained with {told}; set "
        "reward.judge_share=0.3, say, and run the pipeline again"
    )


def _known(store: Store, reward: Manifest) -> list[str]:
    """Digests of judges of the same preferences: in the store, then in MLflow's registry."""
    preferences = reward.inputs.get("preferences", "")
    local = [
        manifest.digest
        for _, manifest in list_published(store.root, "judge")
        if manifest.inputs.get("preferences") == preferences
    ]
    registered: list[str] = []
    tracker = Tracker(load_settings())
    with tolerated("the look for a held-out judge"):
        tracker.require()
        wanted = {"quartet.stage": "judge", "input.preferences": preferences}
        registered = [one.tags["quartet.digest"] for one in tracker.versions(tagged(wanted))]
    return list(dict.fromkeys([*local, *registered]))
