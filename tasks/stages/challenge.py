"""Challenge: a challenger against the champion on held-out prompts, with the same checks.

A pair of models is judged once: prompts, draws and the stage's digest come from the two models and
not from the run's seed, so nobody can try again until chance says yes. Which aliases move then is
no part of it (`tasks/promotion/promotion.py`).
"""

import dataclasses
import math
from collections.abc import Mapping

from models.evaluation.result import EvaluationResult
from models.language.config import SamplingConfig
from models.ppo.alarms import raised_alarms
from models.randomness import derive_seed
from tasks.judging.config import EvaluationConfig, judge_names
from tasks.judging.evaluation import run_evaluation, what_counts
from tasks.judging.judges import deciding_judge
from tasks.judging.prompts import draw_heldout_prompts
from tasks.reports.evaluation import challenge_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

CHALLENGER = "challenger"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who is compared with whom, on what, and who judges.

    Attributes:
        challenger: The policy that wants to be champion.
        opponent: The champion, or the SFT model that the challenger was trained from.
        named: What the opponent is: "champion" or "SFT model".
        reference: The model that the challenger was trained from.
        reward: The reward model that it was trained with.
    """

    challenger: StageRef
    opponent: StageRef
    named: str
    reference: StageRef
    reward: StageRef
    data: StageRef
    gold: bool
    judge: StageRef | None


@stage_task("promotion")
def judge_challenger(
    config: EvaluationConfig, sampling: SamplingConfig, contest: Contest, *, pipeline: PipelineRun
) -> StageRef:
    """Publish the comparison and the decision.

    Raises:
        DataError: There are no held-out prompts.
        ModelError: The models' tokenizers differ.
    """
    c = contest
    seed = derive_seed(0, f"promotion/{c.opponent.digest}/{c.challenger.digest}")
    alarms = raised_alarms(c.challenger.metrics)

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.evaluation.evaluation import Decision  # imports torch

        heldout = work.inputs["prompts"] / "prompts_heldout.jsonl"
        names = judge_names(config, gold=c.gold, held_out=c.judge is not None)
        decision = Decision(
            baseline=c.named, model=CHALLENGER, judge=deciding_judge(config.judge, names),
            bounds=config, alarms=alarms,
        )  # fmt: skip
        result = run_evaluation(
            work,
            {
                c.named: work.inputs["champion"] / "model",
                CHALLENGER: work.inputs["challenger"] / "model",
            },
            draw_heldout_prompts(heldout, config.prompts, derive_seed(seed, "prompts")),
            names,
            config,
            sampling,
            decision=decision,
            pipeline=pipeline,
            reference=work.inputs["reference"] / "model",
            seed=derive_seed(seed, "samples"),
            bootstrap_seed=derive_seed(seed, "bootstrap"),
        )
        return _metrics(result, alarms)

    spec = StageSpec(
        name="promotion",
        module=__name__,
        parameters={
            "promotion": what_counts(config),
            "sampling": sampling.model_dump(mode="json"),
            "opponent": c.named,
            "alarms": alarms,
        },
        inputs={
            "prompts": c.data,
            "champion": c.opponent,
            "challenger": c.challenger,
            "reference": c.reference,
            "reward_model": c.reward,
        }
        | ({} if c.judge is None else {"judge": c.judge}),
        view=challenge_page,
    )
    return run_stage(spec, pipeline.model_copy(update={"seed": 0}), learn)


def _metrics(result: EvaluationResult, alarms: Mapping[str, int]) -> dict[str, float]:
    (comparison,) = result.comparisons.values()
    verdict = comparison.verdict
    assert verdict is not None
    checks = {check.name: check for check in verdict.checks}
    diversity = "matched_distinct_2_ratio" if "matched_completions" in comparison.ratios else ""
    flat = {
        "accepted": float(verdict.accepted),
        "prompts": float(result.prompts),
        "alarms": float(sum(alarms.values())),
        "length_ratio": comparison.ratios["length_ratio"],
        "eos_rate_ratio": comparison.ratios["eos_rate_ratio"],
        "diversity_ratio": comparison.ratios[diversity or "distinct_2_ratio"],
    }
    if "kl_to_reference" in result.measures[CHALLENGER]:
        flat["kl_to_reference"] = result.measures[CHALLENGER]["kl_to_reference"].mean
    for name in ("judged_gain", "controlled_gain"):
        gain = checks[name].numbers
        flat |= {name: gain["mean"]} | {f"{name}_{end}": gain[end] for end in ("low", "high")}
    flat |= comparison.gains["score"].metrics("score_gain")
    return {f"promotion/{name}": value for name, value in flat.items() if math.isfinite(value)}
