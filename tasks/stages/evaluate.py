"""Evaluate: the policy against its SFT model on held-out prompts, under judges, with a verdict."""

from collections.abc import Mapping

from models.evaluation.result import (
    EvaluationResult,
)
from models.language.config import SamplingConfig
from models.ppo.alarms import raised_alarms
from models.randomness import derive_seed
from tasks.judging.config import EvaluationConfig, judge_names
from tasks.judging.evaluation import (
    refuse_known_overlap,
    run_evaluation,
    what_counts,
)
from tasks.judging.judges import deciding_judge
from tasks.judging.prompts import draw_heldout_prompts
from tasks.reports.evaluation import evaluation_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

SFT, PPO = "sft", "ppo"

ALIGNED = (PPO, "dpo", "best-of-n")
"""Stages whose policies go by their names; any other is called ppo, as in all `final/*`."""

NOT_FINAL = ("words", "distinct_2_words", "repetition")
"""Measures in words: both models of a pipeline read the same tokens."""


@stage_task("evaluate")
def evaluate(
    config: EvaluationConfig,
    sampling: SamplingConfig,
    *,
    gold: bool,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    reward: StageRef,
    ppo: StageRef,
    base: StageRef | None = None,
    judge: StageRef | None = None,
) -> StageRef:
    """Publish the comparison and the verdict.

    The base model is given for its loss curve, which the report shows.

    Raises:
        ParameterError: The judge is known to have learned from the reward model's preferences, or
            the one that is to decide is not there.
        ModelError: The two models read different tokens.
        DataError: There are no held-out prompts.
    """
    if judge is not None:
        refuse_known_overlap(judge, reward=reward, policy=ppo)
    alarms, policy = raised_alarms(ppo.metrics), ppo.stage if ppo.stage in ALIGNED else PPO

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.evaluation.evaluation import Decision  # imports torch

        seed = pipeline.seed
        prompts = draw_heldout_prompts(
            work.inputs["prompts"] / "prompts_heldout.jsonl",
            config.prompts,
            derive_seed(seed, "evaluate.prompts"),
        )
        models = {SFT: work.inputs["reference"] / "model", policy: work.inputs["policy"] / "model"}
        judges = judge_names(config, gold=gold, held_out=judge is not None)
        decision = Decision(
            baseline=SFT, model=policy, judge=deciding_judge(config.judge, judges), bounds=config,
            alarms=alarms,
        )  # fmt: skip
        result = run_evaluation(
            work, models, prompts, judges, config, sampling, decision=decision,
            reference=models[SFT], pipeline=pipeline, seed=derive_seed(seed, "evaluate"),
            bootstrap_seed=derive_seed(seed, "evaluate.bootstrap"),
        )  # fmt: skip
        return final_metrics(result)

    spec = StageSpec(
        name="evaluate",
        module=__name__,
        parameters={
            "evaluate": what_counts(config) | {"gold": gold, "alarms": alarms},
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"prompts": data, "reference": sft, "reward_model": reward, "policy": ppo}
        | ({} if base is None else {"base": base})
        | ({} if judge is None else {"judge": judge}),
        view=evaluation_page,
    )
    return run_stage(spec, pipeline, learn)


def final_metrics(result: EvaluationResult) -> dict[str, float]:
    """The verdict and both models' measures as `final/*`; the policy's end in ppo."""
    ((policy, comparison),) = result.comparisons.items()
    verdict = comparison.verdict
    assert verdict is not None
    flat = {
        "accepted": float(verdict.accepted),
        "prompts": float(result.prompts),
        "samples_per_prompt": float(result.samples_per_prompt),
        "independent_judge": float(verdict.independent),
        **comparison.ratios,
    }
    if verdict.overoptimised is not None:
        flat["overoptimisation"] = float(verdict.overoptimised)
    if "kl_to_reference" in result.measures[policy]:
        flat["kl_to_reference"] = result.measures[policy]["kl_to_reference"].mean
    for model, measures in result.measures.items():
        end = PPO if model == policy else model
        flat |= {
            f"{name}_{end}": one.mean for name, one in measures.items() if name not in NOT_FINAL
        }
    for name, gain in comparison.gains.items():
        if name not in NOT_FINAL:
            flat |= gain.metrics(f"{name}_gain")
    for name, gain in comparison.controlled.items():
        flat |= gain.metrics(f"{name}_controlled_gain")
    return {f"final/{name}": value for name, value in flat.items()}
