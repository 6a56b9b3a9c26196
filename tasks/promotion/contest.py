"""Who is compared with whom in a promotion, on which prompts and judged by whom.

All of it comes from the challenger's own lineage: prompts that were held out from *its* training,
and a judge that *its* reward model never shared a preference with.
"""

from collections.abc import Callable

from models.errors import ModelError, ParameterError
from tasks.judging.config import EvaluationConfig
from tasks.promotion.held_out import find_judge
from tasks.registry.versions import ModelVersion
from tasks.results.store import StageRef, Store
from tasks.run.exchange import open_input
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.stages.challenge import Contest
from tasks.stages.resolve import find_model


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
        challenger: A registered policy.
        champion: The one to beat; None compares with the model the challenger was trained from.
        config: Who is to judge.
        pipeline: The run.
        data: Gives prepared datasets where the challenger's own are not known any more.
        judge_model: The held-out judge by name; empty looks for one.

    Raises:
        ModelError: A model or its origin is not known, or nobody can judge.
        ParameterError: The gold judge is wanted on data that it does not know.
    """
    policy = _published(challenger, pipeline)
    reference, reward = open_input(policy, "reference"), open_input(policy, "reward_model")
    if reference is None or reward is None:
        raise ModelError(
            f"{challenger.uri} does not say from which SFT model and with which reward model it "
            "was trained, so neither its KL nor who may judge it is known; promote a policy that "
            "stage ppo made and whose inputs are in the store or in MLflow"
        )
    prepared = open_input(policy, "prompts") or data()
    gold = _has_gold(prepared)
    if config.judge == "gold" and not gold:
        raise ParameterError(
            "promotion.judge is gold, but the gold judge knows only the embedded world and "
            f"data {prepared.digest[:12]} is other data; choose auto or judge, with a judge "
            "from reward.judge_share above 0"
        )
    judge = None
    if config.judge == "judge" or (config.judge == "auto" and not gold):
        judge = find_judge(judge_model, reward, pipeline)
    return Contest(
        challenger=policy,
        opponent=reference if champion is None else _published(champion, pipeline),
        named="SFT model" if champion is None else "champion",
        reference=reference,
        reward=reward,
        data=prepared,
        gold=gold and config.judge in ("auto", "gold"),
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
