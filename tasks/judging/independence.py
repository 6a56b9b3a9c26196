"""Whether a judge can be independent: it must not have learned from the reward model's preferences.

Looked at before an evaluation asks a second reward model for its word. Manifests tell which
preferences, seed and share made a model; of one from elsewhere nothing is known, and whoever names
it answers for it. A promotion wants proof instead (`tasks/promotion/contest.py`).
"""

from models.errors import ParameterError
from tasks.results.store import MANIFEST, Manifest, StageRef, Store
from tasks.settings import load_settings


def refuse_known_overlap(judge: StageRef, *, reward: StageRef, policy: StageRef) -> None:
    """Raise where both models are known to have learned from the same preferences.

    Args:
        judge: The one that is to judge.
        reward: The reward model of the evaluation.
        policy: The policy that is judged; its manifest may name another reward model.

    Raises:
        ParameterError: They are one model, or were trained on the same preferences without being
            the two sides of one split.
    """
    trained = _manifest(policy)
    maximised = trained.inputs.get("reward_model") if trained else None
    if judge.digest in (reward.digest, maximised):
        raise ParameterError(
            f"the judge {judge.stage}/{judge.digest[:12]} is the reward model itself; wanted a "
            "model that PPO was not trained on: set reward.judge_share and train one"
        )
    one, other = _manifest(reward), _manifest(judge)
    if one is None or other is None:
        return
    preferences = one.inputs.get("preferences")
    if preferences is None or preferences != other.inputs.get("preferences"):
        return
    if not (is_held_out(other, one) or is_held_out(one, other)):
        raise ParameterError(
            f"the judge {judge.stage}/{judge.digest[:12]} and the reward model "
            f"{reward.stage}/{reward.digest[:12]} learned from overlapping parts of the same "
            f"preferences {preferences[:12]}: got seed and reward.judge_share {split_of(other)} "
            f"and {split_of(one)}, wanted equal ones with a share above 0; train both in one run"
        )


def is_held_out(judge: Manifest, reward: Manifest) -> bool:
    """Whether manifests prove that no preference taught both a judge and a reward model.

    They do where both were split from the same preferences by the same seed, and the judge's share
    is no larger than the one kept from the reward model: a larger share only adds to a smaller one
    (`models/reward/split.py`).
    """
    return (
        judge.stage == "judge"
        and reward.stage == "reward"
        and judge.inputs.get("preferences") == reward.inputs.get("preferences")
        and judge.seed == reward.seed
        and 0 < split_of(judge)[1] <= split_of(reward)[1]
    )


def split_of(manifest: Manifest) -> tuple[int, float]:
    """The seed and the judge's share by which the preferences of a model were split."""
    return manifest.seed, float(manifest.parameters.get("reward", {}).get("judge_share", 0.0))


def _manifest(ref: StageRef) -> Manifest | None:
    """Read what made a published stage, if it is in the store; its files are verified later."""
    path = Store(load_settings().store).folder(ref.stage, ref.digest) / MANIFEST
    return Manifest.model_validate_json(path.read_bytes()) if path.is_file() else None
