"""Reward quality: how good a reward model is before PPO relies on it, and whether to stop there.

Held-out pairs give its accuracy against length rules, its calibration and its agreement with the
held-out reward model. Samples of the SFT model say how its completions end and what of that the
reward model likes; the best-of-n curve is a judge's opinion of those that it prefers.
"""

from collections.abc import Mapping

from models.errors import WeakRewardError
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.best_of_n import BestOfN, measure_best_of_n
from models.reward.config import RewardQualityConfig
from models.reward.endings import Endings, measure_endings
from models.reward.quality import measure_pairs, weaknesses
from models.rows import read_json, write_json
from models.runtime import ignore
from tasks.judging.judges import GoldJudge
from tasks.judging.prompts import draw_heldout_prompts
from tasks.reports.reward import explain_endings, explain_weaknesses, quality_page
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings

UNJUDGED = 4
"""Most completions of a prompt where nobody judges the best of n."""


@stage_task("reward-quality")
def measure_reward_quality(
    config: RewardQualityConfig,
    sampling: SamplingConfig,
    *,
    gold: bool,
    pipeline: PipelineRun,
    data: StageRef,
    sft: StageRef,
    reward: StageRef,
    judge: StageRef | None,
) -> StageRef:
    """Publish how good a reward model is; `refuse_weak` decides whether to stop.

    Without a gold judge and without a held-out reward model, best-of-n is not measured, and fewer
    completions are sampled.

    Raises:
        DataError: There are no held-out pairs, or no held-out prompts.
    """

    def learn(work: Workspace) -> Mapping[str, float]:
        return _measure(work, config, sampling, gold=gold, seed=pipeline.seed)

    spec = StageSpec(
        name="reward-quality",
        module=__name__,
        parameters={
            # Whether to stop changes nothing in what is measured.
            "reward_quality": config.model_dump(mode="json", exclude={"stop_if_weak"})
            | {"gold": gold},
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"sft": sft, "reward_model": reward, "heldout": data}
        | ({} if judge is None else {"judge": judge}),
        view=quality_page,
    )
    return run_stage(spec, pipeline, learn)


def refuse_weak(ref: StageRef, config: RewardQualityConfig) -> None:
    """Stop the pipeline where the reward model is too weak for PPO, unless `stop_if_weak` is off.

    Raises:
        WeakRewardError: It is weak, and `stop_if_weak` is set.
    """
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    results = read_json(folder / "results.json")
    for finding in explain_endings(results):
        run_logger().warning("%s", finding)
    if not results["weaknesses"]:
        return
    reasons = " ".join(explain_weaknesses(results))
    if config.stop_if_weak:
        raise WeakRewardError(
            f"the reward model is too weak for PPO to learn from. {reasons} Check the preferences' "
            "labels, give more of them or better ones, or train longer (reward.epochs); set "
            "reward_quality.stop_if_weak=false to run PPO all the same"
        )
    run_logger().warning(
        "THE REWARD MODEL IS WEAK, and reward_quality.stop_if_weak is false, so the run continues: "
        "%s", reasons,
    )  # fmt: skip


def _measure(
    work: Workspace, config: RewardQualityConfig, sampling: SamplingConfig, *, gold: bool, seed: int
) -> dict[str, float]:
    from models.reward.ranking import score_pairs  # imports torch

    scores = work.learn(
        score_pairs,
        reward=work.inputs["reward_model"] / "model",
        judge=work.inputs["judge"] / "model" if "judge" in work.inputs else None,
        heldout=work.inputs["heldout"] / "preferences_heldout.jsonl",
        device=work.device,
    )
    quality = measure_pairs(scores, config, derive_seed(seed, "reward_quality.bootstrap"))
    failed = weaknesses(quality, config)
    endings, curves = _measure_samples(work, config, sampling, gold=gold, seed=seed)
    results = {"weaknesses": failed, "pairs": quality, "endings": endings, "best_of_n": curves}
    write_json(work.out / "results.json", results)
    metrics = quality.metrics() | endings.metrics() | {"reward_quality/weak": float(bool(failed))}
    for name, curve in curves.items():
        metrics["reward_quality/prompts"] = float(curve.prompts)
        metrics |= curve.metrics(name)
        for n, judged in enumerate(curve.judged, start=1):  # a chart over n on the run's page
            work.log({f"reward_quality/{name}_best_of_n": judged.mean}, n)
    return metrics


def _measure_samples(
    work: Workspace, config: RewardQualityConfig, sampling: SamplingConfig, *, gold: bool, seed: int
) -> tuple[Endings, dict[str, BestOfN]]:
    """Sample the SFT model: how its completions end, and the best of n by each judge there is."""
    from models.evaluation.sampling import sample_and_score  # imports torch

    prompts = draw_heldout_prompts(
        work.inputs["heldout"] / "prompts_heldout.jsonl",
        config.prompts,
        derive_seed(seed, "reward_quality.prompts"),
    )
    sft = work.inputs["sft"] / "model"
    roles = [role for role in ("reward_model", "judge") if role in work.inputs]
    judged_by_another = gold or len(roles) > 1
    drawn = derive_seed(derive_seed(seed, "reward_quality"), "best_of_n.sampling")
    sampled = work.learn(
        sample_and_score,
        models={"sft": sft},
        prompts=prompts,
        reward_models={role: work.inputs[role] / "model" for role in roles},
        samples_per_prompt=config.best_of if judged_by_another else min(config.best_of, UNJUDGED),
        sampling=sampling,
        run=work.training_run(work.out, drawn, ignore),
    )
    samples = sampled.samples["sft"]
    rewards, *others = (sampled.scores[role]["sft"].score for role in roles)
    judged = {}
    if gold:
        judged["gold"] = GoldJudge(prompts).score(prompts, samples, sft).score
    judged |= dict(zip(roles[1:], others, strict=True))
    endings = measure_endings(
        rewards,
        samples.extent,
        sampling.max_completion_tokens,
        resamples=config.bootstrap_resamples,
        seed=derive_seed(seed, "reward_quality.endings.bootstrap"),
    )
    return endings, {
        name: measure_best_of_n(
            rewards,
            numbers,
            samples.lengths,
            resamples=config.bootstrap_resamples,
            seed=derive_seed(seed, "reward_quality.prompts.bootstrap"),
        )
        for name, numbers in judged.items()
    }
