"""Challenge: a challenger against the champion on held-out prompts, held to the gates.

A pair of models is judged once: prompts, draws and the stage's digest come from the two models and
not from the run's seed, so nobody can try again until chance says yes. Which aliases move then is
no part of it (`tasks/promotion/promotion.py`).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.evaluation.config import PromotionConfig
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.rows import write_rows
from tasks.judging.heldout_prompts import draw_heldout_prompts
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import show_markdown, table_cell
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings

SHOWN_SAMPLES = 5
CELL = 160
LABELS = {
    "judge_score": "held-out reward model",
    "gold": "gold judge (0 to 1)",
    "score": "own reward model",
    "length": "length (tokens)",
    "eos_rate": "ends by itself (share)",
    "distinct_2": "distinct-2",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who is compared with whom, on what, and who judges.

    Attributes:
        challenger: The policy that wants to be champion.
        opponent: The champion, or the SFT model that the challenger was trained from.
        named: What the opponent is, in a sentence: "champion" or "SFT model".
        reference: The model that the challenger was trained from.
        reward: The reward model that it was trained with.
        data: The prepared datasets with the held-out prompts.
        judge: The held-out second reward model; None where the gold judge judges.
        alarms: Of the challenger's training.
    """

    challenger: StageRef
    opponent: StageRef
    named: str
    reference: StageRef
    reward: StageRef
    data: StageRef
    judge: StageRef | None
    alarms: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the gates said.

    Attributes:
        accepted: Whether all of them are open.
        reasons: In sentences: of the shut gates, or of all if all are open.
        report: As Markdown.
    """

    accepted: bool
    reasons: list[str]
    report: str


@stage_task("promotion")
def judge_challenger(
    config: PromotionConfig, sampling: SamplingConfig, contest: Contest, *, pipeline: PipelineRun
) -> StageRef:
    """Publish the comparison and what the gates said to it.

    Args:
        config: Prompts, samples, bounds of the gates.
        sampling: Temperature and longest completion.
        contest: The models and the prompts.
        pipeline: The run.

    Raises:
        DataError: There are no held-out prompts.
        ModelError: The models' tokenizers differ.
    """
    c = contest
    seed = derive_seed(0, f"promotion/{c.opponent.digest}/{c.challenger.digest}")

    def learn(work: Workspace) -> Mapping[str, float]:
        return _judge(work, config, sampling, contest, seed)

    spec = StageSpec(
        name="promotion",
        module=__name__,
        parameters={
            "promotion": config.model_dump(mode="json", exclude={"judge"}),
            "sampling": sampling.model_dump(mode="json"),
            "opponent": c.named,
            "alarms": dict(c.alarms),
        },
        inputs={
            "prompts": c.data,
            "champion": c.opponent,
            "challenger": c.challenger,
            "reference": c.reference,
            "reward_model": c.reward,
        }
        | ({} if c.judge is None else {"judge": c.judge}),
    )
    ref = run_stage(spec, pipeline.model_copy(update={"seed": 0}), learn)
    show_markdown("promotion", read_outcome(ref).report, f"Challenger against {c.named}")
    return ref


def read_outcome(ref: StageRef) -> Outcome:
    """Read what a published comparison came to."""
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return Outcome(
        accepted=verdict["accepted"],
        reasons=verdict["reasons"],
        report=(folder / "report.md").read_text(encoding="utf-8"),
    )


def _judge(
    work: Workspace, config: PromotionConfig, sampling: SamplingConfig, contest: Contest, seed: int
) -> dict[str, float]:
    # Torch and the judge's world are imported only where there is work to do.
    from models.evaluation.challenge import gather_evidence, measure_challenge
    from models.evaluation.gates import pass_gates
    from tasks.judging.gold import judge_samples

    heldout = work.inputs["prompts"] / "prompts_heldout.jsonl"
    prompts = draw_heldout_prompts(heldout, config.prompts, derive_seed(seed, "prompts"))
    model = {role: folder / "model" for role, folder in work.inputs.items()}
    challenge = measure_challenge(
        champion=model["champion"],
        challenger=model["challenger"],
        reference=model["reference"],
        reward=model["reward_model"],
        judge=model.get("judge"),
        prompts=prompts,
        samples_per_prompt=config.samples_per_prompt,
        sampling=sampling,
        seed=derive_seed(seed, "samples"),
        device=work.device,
    )
    if contest.judge is None:
        first, second = (
            dataclasses.replace(one, gold=judge_samples(prompts, one))
            for one in (challenge.champion, challenge.challenger)
        )
        challenge = dataclasses.replace(challenge, champion=first, challenger=second)
    evidence, comparison = gather_evidence(
        challenge,
        config,
        opponent=contest.named,
        alarms=contest.alarms,
        seed=derive_seed(seed, "bootstrap"),
    )
    verdict = pass_gates(evidence, config)
    text = json.dumps(dataclasses.asdict(verdict), indent=2, ensure_ascii=False)
    (work.out / "verdict.json").write_text(text + "\n", encoding="utf-8")
    samples = _sample_rows(prompts, challenge)
    write_rows(work.out / "samples.jsonl", samples)
    report = _report(verdict, comparison, samples, contest)
    (work.out / "report.md").write_text(report, encoding="utf-8")
    return _metrics(verdict, comparison, evidence)


def _sample_rows(prompts: Sequence[Any], challenge: Any) -> list[dict[str, Any]]:
    """One row a prompt: the first sample of each model, side by side."""
    first, second = challenge.champion, challenge.challenger
    rows = []
    for index, prompt in enumerate(prompts):
        row = {
            "prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
            "champion": first.texts[index][0],
            "challenger": second.texts[index][0],
            "champion_score": float(first.score[index, 0]),
            "challenger_score": float(second.score[index, 0]),
            "challenger_kl_to_reference": float(challenge.kl_to_reference[index, 0]),
        }
        for name, one in (("champion_judged", first), ("challenger_judged", second)):
            judged = one.judge_score if one.gold is None else one.gold.gold
            row[name] = float(judged[index, 0])
        rows.append(row)
    return rows


def _metrics(verdict: Any, comparison: Any, evidence: Any) -> dict[str, float]:
    """The comparison as metrics; what could not be measured is left out."""
    found = {
        "accepted": float(verdict.accepted),
        "prompts": float(comparison.prompts),
        "judged_gain": evidence.gain.mean,
        "judged_gain_low": evidence.gain.low,
        "judged_gain_high": evidence.gain.high,
        "score_gain": comparison.gains["score"].mean,
        "score_gain_low": comparison.gains["score"].low,
        "score_gain_high": comparison.gains["score"].high,
        "kl_to_reference": evidence.kl_to_reference,
        "alarms": float(sum(evidence.alarms.values())),
        **{name: comparison.ratios[name] for name in ("length_ratio", "eos_rate_ratio")},
        "diversity_ratio": evidence.diversity.ratio,
    }
    return {f"promotion/{name}": value for name, value in found.items() if math.isfinite(value)}


def _report(verdict: Any, comparison: Any, samples: Sequence[Mapping[str, Any]], c: Contest) -> str:
    """Verdict, gates, numbers and some completions, as Markdown."""
    word = "passes every gate" if verdict.accepted else "is rejected"
    lines = [f"**The challenger {word}.**", ""]
    lines += [
        f"- {'passed' if check.passed else '**failed**'}: {check.sentence}"
        for check in verdict.checks
    ]
    lines += [
        "",
        f"| metric | {c.named} | challenger | gain [95% interval] |",
        "|---|---:|---:|---:|",
    ]
    for name, label in LABELS.items():
        if name in comparison.ppo:
            first, second = comparison.sft[name], comparison.ppo[name]
            gain = str(comparison.gains.get(name, "–"))
            lines.append(f"| {label} | {first:.3f} | {second:.3f} | {gain} |")
    lines += [
        "",
        f"Measured on {comparison.prompts} held-out prompts, {comparison.samples_per_prompt} "
        "samples of each model a prompt, drawn with equal seeds; intervals by a paired bootstrap "
        f"that resamples prompts. Challenger `{c.challenger.digest[:12]}`, {c.named} "
        f"`{c.opponent.digest[:12]}`.",
        "",
        f"| prompt | {c.named} | challenger |",
        "|---|---|---|",
    ]
    step = max(1, len(samples) // SHOWN_SAMPLES)
    for sample in samples[::step][:SHOWN_SAMPLES]:
        cells = (table_cell(sample[key], CELL) for key in ("prompt", "champion", "challenger"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
