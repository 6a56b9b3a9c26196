"""Evaluate: SFT against PPO on held-out prompts, with intervals, pictures and the verdict."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.config import EvaluationConfig
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.rows import read_rows, write_rows
from tasks.judging.heldout_prompts import draw_heldout_prompts
from tasks.judging.independence import refuse_known_overlap
from tasks.results.curves import read_history
from tasks.results.store import StageRef, Store
from tasks.run.pictures import inline_pictures
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import NOTE_CHARACTERS, show_markdown, table_cell
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings
from tasks.tracking.client import Tracker, tolerated

CURVES = {"pretrain": "base", "sft": "reference", "reward": "reward_model", "ppo": "policy"}
"""Stages whose curves are drawn, and the role of the input that has them."""
PICTURES = ("losses", "score_kl", "scores", "lengths")
SHOWN_SAMPLES = 5
CELL = 160
"""Characters of a completion in the report's table; MLflow takes 8,000 in all."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an evaluation came to.

    Attributes:
        accepted: The verdict.
        reasons: In sentences.
        samples: Rows with prompt, SFT and PPO completion.
    """

    accepted: bool
    reasons: list[str]
    samples: list[dict[str, Any]]


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
    """Publish the comparison and the verdict, and put them on the parent run's page.

    Args:
        config: Prompts, samples, bounds of the verdict.
        sampling: Temperature and longest completion.
        gold: Whether the embedded world's gold judge can judge these prompts.
        pipeline: The run.
        data: The prepared datasets.
        sft: The model compared with.
        reward: The reward model.
        ppo: The policy.
        base: The base model, for its loss curve; without one the picture has one curve less.
        judge: The held-out reward model, which also scores; without a gold judge the verdict is
            by it.

    Raises:
        ParameterError: The judge is known to have learned from the reward model's preferences.
        ModelError: The judge has another tokenizer than the SFT model.
        DataError: There are no held-out prompts.
    """
    if judge is not None:
        refuse_known_overlap(judge, reward=reward, policy=ppo)

    def learn(work: Workspace) -> Mapping[str, float]:
        return _evaluate(work, config, sampling, gold=gold, seed=pipeline.seed)

    spec = StageSpec(
        name="evaluate",
        module=__name__,
        parameters={
            "evaluate": config.model_dump(mode="json") | {"gold": gold},
            "sampling": sampling.model_dump(mode="json"),
        },
        inputs={"prompts": data, "reference": sft, "reward_model": reward, "policy": ppo}
        | ({} if base is None else {"base": base})
        | ({} if judge is None else {"judge": judge}),
    )
    ref = run_stage(spec, pipeline, learn)
    _show(ref, pipeline)
    return ref


def read_outcome(ref: StageRef) -> Outcome:
    """Read the verdict and the samples of a published evaluation."""
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return Outcome(
        accepted=verdict["accepted"],
        reasons=verdict["reasons"],
        samples=read_rows(folder / "samples.jsonl"),
    )


def _evaluate(
    work: Workspace, config: EvaluationConfig, sampling: SamplingConfig, *, gold: bool, seed: int
) -> dict[str, float]:
    # Torch and the judge's world are imported only where there is work to do.
    from models.evaluation.comparison import compare
    from models.language.prompts import measure_policies
    from tasks.judging.gold import judge_samples

    prompts = draw_heldout_prompts(
        work.inputs["prompts"] / "prompts_heldout.jsonl",
        config.prompts,
        derive_seed(seed, "evaluate.prompts"),
    )
    sft, ppo = measure_policies(
        sft=work.inputs["reference"] / "model",
        ppo=work.inputs["policy"] / "model",
        reward=work.inputs["reward_model"] / "model",
        prompts=prompts,
        samples_per_prompt=config.samples_per_prompt,
        sampling=sampling,
        seed=derive_seed(seed, "evaluate"),
        device=work.device,
        judge=work.inputs["judge"] / "model" if "judge" in work.inputs else None,
    )
    if gold:
        sft = dataclasses.replace(sft, gold=judge_samples(prompts, sft))
        ppo = dataclasses.replace(ppo, gold=judge_samples(prompts, ppo))
    comparison = compare(sft, ppo, config, derive_seed(seed, "evaluate.bootstrap"))
    verdict = dataclasses.asdict(comparison.verdict) | {
        "judge": comparison.judge,
        "independent": comparison.independent,
    }
    _write_json(work.out / "verdict.json", verdict)
    samples = _sample_rows(prompts, sft, ppo)
    write_rows(work.out / "samples.jsonl", samples)
    report = f"{comparison.to_markdown()}\n\n{_sample_table(samples)}\n"
    (work.out / "report.md").write_text(report, encoding="utf-8")
    _draw(work, sft, ppo)
    return comparison.metrics()


def _sample_rows(prompts: Sequence[Any], sft: Any, ppo: Any) -> list[dict[str, Any]]:
    """One row a prompt: the first sample of each model, side by side."""
    rows = []
    for index, prompt in enumerate(prompts):
        row = {
            "prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
            "sft": sft.texts[index][0],
            "ppo": ppo.texts[index][0],
            "sft_score": float(sft.score[index, 0]),
            "ppo_score": float(ppo.score[index, 0]),
            "ppo_kl_to_reference": float(ppo.kl[index, 0]),
        }
        if sft.judge_score is not None:
            row["sft_judge_score"] = float(sft.judge_score[index, 0])
            row["ppo_judge_score"] = float(ppo.judge_score[index, 0])
        if sft.gold is not None:
            row["sft_gold"] = float(sft.gold.gold[index, 0])
            row["ppo_gold"] = float(ppo.gold.gold[index, 0])
        rows.append(row)
    return rows


def _sample_table(samples: list[dict[str, Any]]) -> str:
    """Show a few prompts with what both models say, as Markdown."""
    lines = ["| prompt | SFT | PPO |", "|---|---|---|"]
    step = max(1, len(samples) // SHOWN_SAMPLES)
    for sample in samples[::step][:SHOWN_SAMPLES]:
        cells = [table_cell(sample[key], CELL) for key in ("prompt", "sft", "ppo")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _draw(work: Workspace, sft: Any, ppo: Any) -> None:
    from tasks.reports.training import plot_distributions, plot_loss_curves, plot_score_against_kl

    plots = work.out / "plots"
    plots.mkdir()
    histories = {
        stage: read_history(work.inputs[role])
        for stage, role in CURVES.items()
        if role in work.inputs
    }
    histories = {stage: curves for stage, curves in histories.items() if curves}
    if histories:  # models from elsewhere come without
        plot_loss_curves(histories, plots / "losses.png")
    curves = histories.get("ppo", {})
    kl, score = (curves.get(f"ppo/objective/{name}") for name in ("kl_to_reference", "score"))
    if kl and score:
        plot_score_against_kl(
            [(x, y) for (_, x), (_, y) in zip(kl, score, strict=True)], plots / "score_kl.png"
        )
    plot_distributions(
        sft.score.ravel(), ppo.score.ravel(), "score", "reward model", plots / "scores.png"
    )
    plot_distributions(
        sft.lengths.ravel(), ppo.lengths.ravel(), "completion length", "tokens",
        plots / "lengths.png",
    )  # fmt: skip


def _show(ref: StageRef, pipeline: PipelineRun) -> None:
    """Put the report on the Prefect run's page and on the MLflow parent's."""
    settings = load_settings()
    folder = Store(settings.store).folder(ref.stage, ref.digest)
    report = (folder / "report.md").read_text(encoding="utf-8")
    pictures = inline_pictures(
        [one for name in PICTURES if (one := folder / "plots" / f"{name}.png").exists()]
    )
    show_markdown("evaluation", f"{report}\n{pictures}", "SFT against PPO on held-out prompts")
    with tolerated("the evaluation's report"):
        tracker = Tracker(settings)
        tracker.log_final(pipeline.run_id, ref.metrics)
        tracker.log_folder(pipeline.run_id, folder / "plots", "plots")
        accepted = "accepted" if ref.metrics["final/accepted"] else "rejected"
        tracker.set_tags(
            pipeline.run_id,
            {"quartet.verdict": accepted, "mlflow.note.content": report[:NOTE_CHARACTERS]},
        )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
