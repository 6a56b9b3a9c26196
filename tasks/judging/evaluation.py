"""The body of every stage that evaluates: judges made, models evaluated, the record written.

Before a held-out reward model is asked, it is checked that it did not learn from the preferences of
the first (`refuse_known_overlap`). Manifests tell which preferences, seed and share made a model;
of one from elsewhere nothing is known, and whoever names it answers for it. A promotion wants proof
instead (`tasks/promotion/contest.py`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from models.errors import ParameterError
from models.evaluation.config import EndpointConfig
from models.evaluation.measures import Bootstrap
from models.evaluation.result import SAMPLES, EvaluationResult
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.rows import write_rows
from models.statistics.intervals import Interval
from tasks.judging.config import EvaluateModelsConfig, EvaluationConfig
from tasks.judging.judges import make_judge
from tasks.results.store import MANIFEST, Manifest, StageRef, Store, write_whole
from tasks.run.pipeline import PipelineRun
from tasks.run.workspace import Workspace
from tasks.settings import load_settings

if TYPE_CHECKING:
    from models.evaluation.evaluation import Decision, Evaluation
    from models.evaluation.sampling import SampledModels

    Further: TypeAlias = Callable[[Evaluation], Mapping[str, Mapping[str, Interval]]]

KEPT = "samples.json"
"""File of an evaluation's partial folder: samples that people are asked about."""

JUDGE_ROLES = {"reward": "reward_model", "judge": "judge"}
"""Roles of the inputs that are judges."""


def what_counts(config: EvaluationConfig) -> dict[str, Any]:
    """What a decision depends on: not how an endpoint is reached, only who answers what."""
    others = config.model_dump(mode="json", exclude={"endpoint", "people_prompts"})
    return others | identities(config, [config.judge, *config.judges])


def identities(
    config: EvaluationConfig | EvaluateModelsConfig, judges: Sequence[str]
) -> dict[str, Any]:
    """What the answers of judges that compare pairs depend on; nothing of those not asked."""
    shown: dict[str, Any] = {}
    if "endpoint" in judges:
        shown["endpoint"] = endpoint_identity(config.endpoint)
    if "people" in judges:
        shown["people_prompts"] = config.people_prompts
    return shown


def endpoint_identity(endpoint: EndpointConfig) -> dict[str, Any]:
    """What of an endpoint its answers depend on."""
    told = {"url", "model", "criteria", "prompts", "temperature", "max_tokens"}
    return endpoint.model_dump(mode="json", include=told)


def run_evaluation(
    work: Workspace,
    models: Mapping[str, Path],
    prompts: list[Any],
    judges: list[str],
    config: EvaluationConfig | EvaluateModelsConfig,
    sampling: SamplingConfig,
    *,
    pipeline: PipelineRun,
    seed: int,
    bootstrap_seed: int,
    reference: Path | None,
    reference_name: str = "",
    decision: "Decision | None" = None,
    further: "Further | None" = None,
) -> EvaluationResult:
    """Evaluate models and write the record into the workspace.

    Args:
        work: Has the judges' models among its inputs.
        models: Model folders by name.
        prompts: Different ones, each a string or messages.
        judges: Names of the judges.
        config: Samples, resamples, and how to reach the endpoint.
        sampling: Temperature and longest completion.
        pipeline: Who asks, for people.
        seed: Of the samples.
        bootstrap_seed: Of the intervals.
        reference: Folder of the model to which the KL is measured.
        reference_name: What the record calls it.
        decision: What is to be decided, if anything.
        further: Gives more measures of each model.

    Raises:
        ModelError: Something is to be decided, and the two models read different tokens.
    """
    from models.evaluation.evaluation import evaluate, summarise  # imports torch
    from models.evaluation.sampling import log_seconds
    from models.language.folders import refuse_other_tokenizer

    if decision is not None:
        refuse_other_tokenizer(
            models[decision.baseline], decision.baseline, models[decision.model], decision.model,
            "lengths, KL and diversity of others cannot be compared; compare models trained with "
            "one tokenizer, or register the model under another name, where it has no champion yet",
        )  # fmt: skip
    reward_models = _reward_models(work)
    asked = {
        name: make_judge(
            name, prompts, reward_models=reward_models, endpoint=config.endpoint,
            answers=work.checkpoints, out=work.out, pipeline=pipeline,
        )
        for name in judges
    }  # fmt: skip
    scorers = {name: reward_models[name] for name, judge in asked.items() if judge is None}
    given = {
        "models": models, "prompts": prompts, "reward_models": scorers, "reference": reference,
        "samples_per_prompt": config.samples_per_prompt, "sampling": sampling,
        "run": work.training_run(work.out, derive_seed(seed, "policies.sampling")),
    }  # fmt: skip
    sampled = _sample(work, given, keep="people" in judges)
    bootstrap = Bootstrap(resamples=config.bootstrap_resamples, seed=bootstrap_seed)
    evaluation = evaluate(
        models,
        prompts,
        asked,
        sampled,
        bootstrap=bootstrap,
        pairwise_prompts={"endpoint": config.endpoint.prompts, "people": config.people_prompts},
        step=log_seconds(work.log, sampled.steps),
    )
    more = {} if further is None else further(evaluation)
    result = summarise(
        evaluation, bootstrap, reference=reference_name, decision=decision, further=more
    )
    result.write(work.out)
    write_rows(work.out / SAMPLES, evaluation.rows())
    return result


def _sample(work: Workspace, given: Mapping[str, Any], *, keep: bool) -> "SampledModels":
    """Sample the models; what people compare over several attempts is kept between them."""
    from models.distributed.records import from_plain, to_plain  # imports torch
    from models.evaluation.sampling import sample_and_score

    file = work.checkpoints / KEPT
    if keep and file.exists():
        kept: SampledModels = from_plain(json.loads(file.read_text(encoding="utf-8")))
        return kept
    sampled = work.learn(sample_and_score, **given)
    if keep:
        write_whole(file, json.dumps(to_plain(sampled)))
    return sampled


def _reward_models(work: Workspace) -> dict[str, Path]:
    """Folders of the judges that are reward models."""
    return {
        judge: work.inputs[role] / "model"
        for judge, role in JUDGE_ROLES.items()
        if role in work.inputs
    }


def refuse_known_overlap(judge: StageRef, *, reward: StageRef, policy: StageRef) -> None:
    """Raise where both models are known to have learned from the same preferences.

    The policy's manifest may name another reward model than `reward`; that one must not judge.

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
    (`models/preference_shares.py`).
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
