"""Who is compared with whom in a promotion, on which prompts and judged by whom.

All of it comes from the challenger's own lineage: prompts that were held out from *its* training,
and a judge that *its* reward model never shared a preference with.
"""

from collections.abc import Callable

from models.errors import ModelError, ParameterError
from tasks.judging.config import EvaluationConfig
from tasks.judging.evaluation import is_held_out, split_of
from tasks.judging.possible import refuse_impossible
from tasks.registry.origins import open_origin
from tasks.registry.versions import ModelVersion
from tasks.results.manifests import list_published
from tasks.results.store import Manifest, StageRef, Store
from tasks.run.exchange import open_input
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.stages.challenge import Contest
from tasks.stages.resolve import find_model
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import tagged


def find_contest(
    challenger: ModelVersion,
    champion: ModelVersion | None,
    config: EvaluationConfig,
    *,
    pipeline: PipelineRun,
    data: Callable[[], StageRef],
    judge_model: str,
) -> Contest:
    """Find everything that the comparison needs, from the challenger's lineage.

    Args:
        champion: The one to beat; None compares with the model the challenger was trained from.
        data: Gives prepared datasets where the challenger's own are not known any more.
        judge_model: Name of a held-out judge; empty looks for one.

    Raises:
        ModelError: A model or its origin is not known, or nobody can judge.
        ParameterError: The gold judge is wanted on data that it does not know, a judge is not
            there, or a count is so small that no challenger can pass.
    """
    policy = _published(challenger, pipeline)
    reference, reward = open_input(policy, "reference"), open_origin(policy, "reward_model")
    if reference is None or reward is None:
        raise ModelError(
            f"{challenger.uri} does not say from which SFT model and with which reward model it "
            "was trained, so neither its KL nor who may judge it is known; promote a policy that "
            "Quartet trained and whose inputs are in the store or in MLflow"
        )
    prepared = open_input(policy, "prompts") or open_input(policy, "heldout") or data()
    gold = _has_gold(prepared)
    if config.judge == "gold" and not gold:
        raise ParameterError(
            "promotion.judge is gold, but the gold judge knows only the embedded world and "
            f"data {prepared.digest[:12]} is other data; choose auto or judge, with a judge "
            "from reward.judge_share above 0"
        )
    judge = None
    if config.judge == "judge" or (config.judge == "auto" and not gold):
        judge = _find_judge(judge_model, reward, pipeline)
    asks_gold = gold and config.judge in ("auto", "gold")
    refuse_impossible(config, gold=asks_gold, held_out=judge is not None, group="promotion")
    return Contest(
        challenger=policy,
        opponent=reference if champion is None else _published(champion, pipeline),
        named="SFT model" if champion is None else "champion",
        reference=reference,
        reward=reward,
        data=prepared,
        gold=asks_gold,
        judge=judge,
    )


def _published(version: ModelVersion, pipeline: PipelineRun) -> StageRef:
    if version.published is None:
        raise ModelError(
            f"{version.uri} was not registered by Quartet, so what it was made from is not known; "
            "promote a version that a pipeline run registered"
        )
    stage, digest = version.published
    return find_model(f"{stage}/{digest}", role="policy", pipeline=pipeline)


def _has_gold(data: StageRef) -> bool:
    manifest = Store(load_settings().store).find(data.stage, data.digest)
    return manifest is not None and manifest.parameters.get("data", {}).get("source") == "world"


def record_approval(
    pipeline: PipelineRun, gate: str, *, approved: bool, by: str, note: str
) -> None:
    """Write the answer to a gate, `before_ppo` or `promotion`, into a pipeline run's tags."""
    tag = f"approval.{gate}"
    answer = {tag: "approved" if approved else "refused", f"{tag}.by": by, f"{tag}.note": note}
    with tolerated(f"the approval {gate}"):
        Tracker(load_settings()).log(pipeline.run_id, tags=answer)


def _find_judge(name: str, reward: StageRef, pipeline: PipelineRun) -> StageRef:
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
    for digest in _judge_digests(store, wanted):
        judge = find_model(f"judge/{digest}", role="judge", pipeline=pipeline)
        found = store.find(judge.stage, judge.digest)
        if found is not None and is_held_out(found, wanted):
            return judge
    _, share = split_of(wanted)
    split = f"reward.judge_share={share:g} but no judge of it" if share else "reward.judge_share=0"
    raise ModelError(
        "there is neither a gold judge for these prompts nor a held-out one that training never "
        f"saw: reward model {reward.digest[:12]} was trained with {split}; set "
        "reward.judge_share=0.3, say, and run the pipeline again"
    )


def _judge_digests(store: Store, reward: Manifest) -> list[str]:
    preferences = reward.inputs.get("preferences", "")
    local = [
        manifest.digest
        for _, manifest in list_published(store.root, "judge")
        if manifest.inputs.get("preferences") == preferences
    ]
    registered: list[str] = []
    tracker = Tracker(load_settings())
    with tolerated("the look for a held-out judge"):
        tracker.require(patient=True)
        wanted = {"quartet.stage": "judge", "input.preferences": preferences}
        registered = [one.tags["quartet.digest"] for one in tracker.versions(tagged(wanted))]
    return list(dict.fromkeys([*local, *registered]))
