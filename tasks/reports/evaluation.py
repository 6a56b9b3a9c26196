"""The pages of evaluations: one layout for the verdict, a promotion, and any models.

The decision with its checks, the measures, win rates, some completions side by side, and how to
read them; the pipeline's page has pictures too.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.measures import score_name
from models.evaluation.result import (
    EvaluationResult,
    by_prompt,
    read_result,
    read_samples,
    sentence_names,
)
from models.evaluation.wording import bullet_list, judge_name, verdict_word
from models.statistics.intervals import Interval
from tasks.reports.length_plot import plot_gain_against_length
from tasks.reports.style import CELL, cell, gain_text, number, table, with_interval
from tasks.reports.training import plot_distributions, plot_loss_curves, plot_score_against_kl
from tasks.reports.win_rates import win_rate_text
from tasks.results.curves import read_history
from tasks.run.spec import Page, Result

LABELS: Mapping[str, tuple[str, int]] = {
    "score": ("score (reward model)", 3),
    "judge_score": ("score (held-out reward model)", 3),
    "gold": ("gold score (0 to 1)", 3),
    "correct": ("correct (share)", 3),
    "polite": ("polite (share)", 3),
    "good": ("fully good (share)", 3),
    "refusal": ("refused what must be refused (share)", 3),
    "vader_score": ("sentiment (-1 to 1)", 3),
    "kl_to_reference": ("KL to reference (nats per completion)", 3),
    "length": ("length (tokens)", 1),
    "words": ("length (words)", 1),
    "eos_rate": ("ends by itself (share)", 3),
    "repetition": ("repeated 4-grams (share)", 3),
    "unique_share": ("unique completions (share)", 3),
    "distinct_2": ("distinct-2 (tokens)", 3),
    "distinct_2_words": ("distinct-2 (words)", 3),
    "good_pair_difference": ("two good samples of a prompt differ (probability)", 3),
    "perplexity_texts": ("perplexity, texts", 2),
    "bits_per_byte_texts": ("bits per byte, texts", 3),
    "perplexity_demonstrations": ("perplexity, demonstrations", 2),
    "bits_per_byte_demonstrations": ("bits per byte, demonstrations", 3),
    "bleu": ("BLEU (0 to 100)", 1),
    "rouge1": ("ROUGE-1", 3),
    "rouge2": ("ROUGE-2", 3),
    "rougeL": ("ROUGE-L", 3),
}
"""What measures are called, and with how many decimals they are shown; others go by their names."""

CURVES = {"pretrain": "base", "sft": "reference", "reward": "reward_model"}
"""Stages whose losses the pipeline's page draws, and the role of the input that has them."""

SHOWN_SAMPLES = 5
FEW_PROMPTS = 512


def evaluation_page(result: Result, plots: Path) -> Page:
    """The policy against its SFT model, with the pipeline's pictures."""
    record = read_result(result.folder)
    model = _decided(record)[0]
    names = sentence_names(str(record.baseline), model)
    return Page(
        title=f"{names[0]} against {names[1]} on held-out prompts",
        markdown=_decision_text(record, result.folder, "Verdict"),
        pictures=_draw(result, plots, model),
        on_pipeline=True,
        tags={"quartet.verdict": verdict_word(_decided(record)[1])},
    )


def challenge_page(result: Result, plots: Path) -> Page:
    """The challenger against the champion."""
    record = read_result(result.folder)
    return Page(
        title=f"Challenger against {record.baseline}",
        markdown=_decision_text(record, result.folder, "Promotion"),
    )


def models_page(result: Result, plots: Path) -> Page:
    """Any models side by side."""
    record = read_result(result.folder)
    parts = [_models_table(record), _legend(record)]
    if len(record.measures) > 1:
        parts += [win_rate_text(judge, rates, record) for judge, rates in record.win_rates.items()]
    parts.append(_samples_table(result.folder))
    return Page(
        title="Models side by side, and which is preferred",
        markdown="\n\n".join(parts),
        on_pipeline=True,
    )


def metric_label(model: str) -> str:
    """A model's name in letters that MLflow takes in the name of a metric."""
    return re.sub(r"[^\w. -]+", "-", model).strip("-")


def _decided(record: EvaluationResult) -> tuple[str, Any]:
    assert record.decided is not None
    return record.decided


def _decision_text(record: EvaluationResult, folder: Path, title: str) -> str:
    model, verdict = _decided(record)
    names = sentence_names(cell(record.baseline, CELL), cell(model, CELL))
    judge = judge_name(cell(verdict.judge, CELL))
    rate = record.comparisons[model].ratios["win_rate"]
    return "\n\n".join(
        (
            f"**{title}: {verdict_word(verdict)}**",
            "\n".join(bullet_list(verdict, names)),
            _gains_table(record, model, names),
            f"{_legend(record)} × is {names[1]} over {names[0]}. The {judge} "
            f"prefers {names[1]}'s sample to {names[0]}'s in {number(rate, 3)} of the pairs of "
            "one prompt, ties counted half.",
            _samples_table(folder),
        )
    )


def _gains_table(record: EvaluationResult, model: str, names: tuple[str, str]) -> str:
    comparison = record.comparisons[model]
    rows = []
    for name, one in record.measures[model].items():
        label, digits = LABELS.get(name, (cell(name, CELL), 3))
        unknown = Interval(mean=math.nan)
        gain = gain_text(comparison.gains.get(name, unknown))
        factor = comparison.ratios.get(f"{name}_ratio", math.nan)
        if math.isfinite(factor):
            gain += f" (× {factor:.2f})"
        baseline = record.measures[record.baseline][name].mean
        equal = gain_text(comparison.controlled.get(name, unknown))
        rows.append((label, number(baseline, digits), number(one.mean, digits), gain, equal))
    order = list(dict.fromkeys(label for label, _ in LABELS.values()))
    rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    return table(("measure", *names, "gain [95% interval]", "at equal length and ending"), rows)


def _models_table(record: EvaluationResult) -> str:
    there = {name for measured in record.measures.values() for name in measured}
    shown = [name for name in LABELS if name in there] + sorted(there - set(LABELS))
    rows = [
        (
            LABELS.get(name, (cell(name, CELL), 3))[0],
            *(
                with_interval(measured.get(name), LABELS.get(name, (name, 3))[1])
                for measured in record.measures.values()
            ),
        )
        for name in shown
    ]
    return table(("measure", *(cell(model, CELL) for model in record.measures)), rows)


def _legend(record: EvaluationResult) -> str:
    few = f" (fewer than {FEW_PROMPTS})" if record.prompts < FEW_PROMPTS else ""
    kl = f" KL is to {cell(record.reference, CELL)}." if record.reference else ""
    return (
        f"Measured on {record.prompts} prompts{few}, {record.samples_per_prompt} samples of each "
        "model per prompt, drawn with the same random seeds. In brackets: 95% intervals by a "
        "bootstrap that resamples prompts, at equal length and ending by a regression over them; "
        "numbers without brackets pool all samples. Lengths in tokens are each model's own "
        f"tokens.{kl}"
    )


def _samples_table(folder: Path) -> str:
    """A few prompts with what each model completed them with."""
    shown = by_prompt(read_samples(folder))
    step = max(1, len(shown) // SHOWN_SAMPLES)
    header = ("prompt", *(cell(row["model"], CELL) for row in shown[0]))
    cells = [
        [cell(group[0]["prompt"], CELL), *(cell(row["completion"], CELL) for row in group)]
        for group in shown[::step][:SHOWN_SAMPLES]
    ]
    return table(header, cells, text_columns=len(header))


def _draw(result: Result, plots: Path, policy: str) -> Sequence[Path]:
    histories = {
        stage: curves
        for stage, role in (CURVES | {policy: "policy"}).items()
        if role in result.inputs and (curves := read_history(result.inputs[role]))
    }
    drawn = []
    if histories:  # models from elsewhere come without
        plot_loss_curves(histories, plots / "losses.png")
        drawn.append(plots / "losses.png")
    curves = histories.get("ppo", {})
    kl, score = (curves.get(f"ppo/objective/{name}") for name in ("kl_to_reference", "score"))
    if kl and score:
        points = [(x, y) for (_, x), (_, y) in zip(kl, score, strict=True)]
        plot_score_against_kl(points, plots / "score_kl.png")
        drawn.append(plots / "score_kl.png")
    rows = read_samples(result.folder)
    sides = [[row for row in rows if row["model"] == model] for model in ("sft", policy)]
    for key, label, unit in (("scores", "score", "reward model"),
                             ("lengths", "completion length", "tokens")):  # fmt: skip
        first, second = (
            [float(row["scores"]["reward"] if key == "scores" else row["tokens"]) for row in one]
            for one in sides
        )
        name = sentence_names("sft", policy)[1]
        plot_distributions(first, second, label, unit, plots / f"{key}.png", policy=name)
        drawn.append(plots / f"{key}.png")
    return [*drawn, *_draw_gain(result, plots, policy, sides)]


def _draw_gain(
    result: Result, plots: Path, policy: str, sides: Sequence[Sequence[Mapping[str, Any]]]
) -> Iterator[Path]:
    """The gain over length, by the judge that decides if it gives scores."""
    record = read_result(result.folder)
    decided, comparison = _decided(record)[1].judge, record.comparisons[policy]
    judge = decided if decided in sides[0][0]["scores"] else "reward"
    name = score_name(judge)
    gains = (comparison.gains[name], comparison.controlled[name])
    plot_gain_against_length(sides, judge, judge_name(judge), gains, plots / "gain_length.png")
    yield plots / "gain_length.png"
