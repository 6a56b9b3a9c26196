"""Reward quality: what a reward model is worth, shown before PPO leans on it, and the rule to stop.

Held-out pairs tell its accuracy against length rules, its calibration and its agreement with the
second reward model; the best-of-n curve tells what a judge thinks of the completions it likes.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import WeakRewardError
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.reward.best_of_n import BestOfN, measure_best_of_n
from models.reward.config import RewardQualityConfig
from models.reward.quality import PairQuality, measure_pairs, weaknesses
from tasks.judging.judges import GoldJudge, RewardJudge
from tasks.judging.prompts import draw_heldout_prompts
from tasks.reports.reward import quality_report
from tasks.results.store import StageRef, Store
from tasks.run.pictures import inline_pictures
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import run_logger, show_markdown
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings

PICTURES = ("accuracy", "calibration", "best_of_n")


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
    """Publish how good a reward model is and show it; whether to stop is `refuse_weak`'s.

    Without a gold judge and without a second reward model there is nobody to judge best-of-n.

    Args:
        config: Prompts, samples, bins, bounds.
        sampling: How the SFT model is sampled.
        gold: Whether the embedded world's gold judge can judge these prompts.
        pipeline: The run.
        data: The prepared datasets, for held-out pairs and prompts.
        sft: The model sampled.
        reward: The reward model measured.
        judge: The second reward model, where there is one.

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
    )
    ref = run_stage(spec, pipeline, learn)
    _show(ref)
    return ref


def refuse_weak(ref: StageRef, config: RewardQualityConfig) -> None:
    """Stop the chain where the reward model is too weak for PPO, unless told otherwise.

    Args:
        ref: What `measure_reward_quality` published.
        config: Says whether to stop.

    Raises:
        WeakRewardError: It is weak, and `stop_if_weak` is set.
    """
    found = json.loads((_folder(ref) / "results.json").read_text(encoding="utf-8"))
    if not found["weaknesses"]:
        return
    reasons = " ".join(found["weaknesses"])
    if config.stop_if_weak:
        raise WeakRewardError(
            f"the reward model is too weak for PPO to learn from. {reasons} Check the preferences' "
            "labels, give more of them or better ones, or train longer (reward.epochs); set "
            "reward_quality.stop_if_weak=false to run PPO all the same"
        )
    run_logger().warning(
        "THE REWARD MODEL IS WEAK, and reward_quality.stop_if_weak is false, so the run goes on: "
        "%s", reasons,
    )  # fmt: skip


def _measure(
    work: Workspace, config: RewardQualityConfig, sampling: SamplingConfig, *, gold: bool, seed: int
) -> dict[str, float]:
    # Torch is imported only where there is work to do.
    from models.reward.scores import score_pairs

    scores = score_pairs(
        reward=work.inputs["reward_model"] / "model",
        judge=work.inputs["judge"] / "model" if "judge" in work.inputs else None,
        heldout=work.inputs["heldout"] / "preferences_heldout.jsonl",
        device=work.device,
    )
    quality = measure_pairs(scores, config, derive_seed(seed, "reward_quality.bootstrap"))
    reasons = weaknesses(quality, config)
    curves = {}
    if gold or "judge" in work.inputs:
        curves = _best_of_n(work, config, sampling, gold=gold, seed=seed)
    _draw(work.out / "plots", quality, list(curves.values()))
    results = {
        "weaknesses": reasons,
        "pairs": dataclasses.asdict(quality),
        "best_of_n": {name: dataclasses.asdict(curve) for name, curve in curves.items()},
    }
    text = json.dumps(_plain(results), indent=2, ensure_ascii=False)
    (work.out / "results.json").write_text(text + "\n", encoding="utf-8")
    report = quality_report(quality, list(curves.values()), reasons)
    (work.out / "report.md").write_text(report, encoding="utf-8")
    metrics = quality.metrics() | {"reward_quality/weak": float(bool(reasons))}
    for name, curve in curves.items():
        metrics["reward_quality/prompts"] = float(curve.prompts)
        metrics |= curve.metrics(name)
        for n, judged in enumerate(curve.judged, start=1):  # a chart over n on the run's page
            work.log({f"reward_quality/{name}_best_of_n": judged.mean}, n)
    return metrics


def _best_of_n(
    work: Workspace, config: RewardQualityConfig, sampling: SamplingConfig, *, gold: bool, seed: int
) -> dict[str, BestOfN]:
    """Sample the SFT model once and draw up one curve a judge, the gold judge's first."""
    from models.evaluation.sampling import sample_model  # imports torch

    prompts = draw_heldout_prompts(
        work.inputs["heldout"] / "prompts_heldout.jsonl",
        config.prompts,
        derive_seed(seed, "reward_quality.prompts"),
    )
    sft = work.inputs["sft"] / "model"
    samples = sample_model(
        sft,
        prompts,
        samples_per_prompt=config.best_of,
        sampling=sampling,
        seed=derive_seed(seed, "reward_quality"),
        device=work.device,
    )

    def rewarded(role: str) -> Any:
        judge = RewardJudge(work.inputs[role] / "model", work.device)
        return judge.score(prompts, samples, sft).score

    judged = {}
    if gold:
        scores = GoldJudge(prompts).score(prompts, samples, sft).score
        judged["gold"] = ("gold judge", "0 to 1", scores)
    if "judge" in work.inputs:
        judged["judge"] = ("held-out reward model", "its score", rewarded("judge"))
    rewards = rewarded("reward_model")
    return {
        name: measure_best_of_n(
            rewards,
            numbers,
            samples.lengths,
            judge=judge,
            unit=unit,
            resamples=config.bootstrap_resamples,
            seed=derive_seed(seed, "reward_quality.prompts.bootstrap"),
        )
        for name, (judge, unit, numbers) in judged.items()
    }


def _draw(plots: Path, quality: PairQuality, curves: list[BestOfN]) -> None:
    from tasks.reports.quality_plots import plot_accuracy, plot_best_of_n, plot_calibration

    plots.mkdir()
    plot_accuracy(quality, plots / "accuracy.png")
    plot_calibration(quality, plots / "calibration.png")
    if curves:
        plot_best_of_n(curves, plots / "best_of_n.png")


def _show(ref: StageRef) -> None:
    """Put the report with its pictures on the Prefect run's page."""
    folder = _folder(ref)
    report = (folder / "report.md").read_text(encoding="utf-8")
    pictures = inline_pictures(
        [one for name in PICTURES if (one := folder / "plots" / f"{name}.png").exists()]
    )
    show_markdown("reward-quality", f"{report}\n{pictures}", "Whether PPO can learn from it")


def _folder(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def _plain(value: Any) -> Any:
    """Make a value that JSON knows: no number is written where none could be measured."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
