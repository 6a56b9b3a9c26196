"""The record of an evaluation: one results.json and one samples.jsonl, whatever asked for it.

The pipeline's verdict, a promotion, a comparison of runs and a free evaluation of models are all
readers of it. Folders that were published with another layout are read as well.

    results.json    measures of each model, win rates by judge, gains over a baseline, the decision
    samples.jsonl   a row each completion: model, prompt, completion, scores, …
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.evaluation.checks import Check, Verdict
from models.evaluation.measures import score_name
from models.evaluation.wording import (
    Names,
    cautions,
    headline,
    judge_name,
    reasons,
    verdict_word,
)
from models.rows import read_rows, write_json
from models.statistics.intervals import Interval
from models.statistics.win_rates import WinRates

RESULTS, SAMPLES = "results.json", "samples.jsonl"
OLD_VERDICT = "verdict.json"

NAMES: Mapping[str, str] = {"sft": "SFT", "ppo": "PPO", "dpo": "DPO", "champion": "the champion",
                            "challenger": "the challenger"}  # fmt: skip
"""What models are called in sentences, where their own name would not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model beside the baseline.

    Attributes:
        gains: Model less baseline of everything measured on single samples, with 95% intervals.
        controlled: Gains by judges' scores at equal length and ending; none in older records.
        ratios: Model over baseline, by name, and `win_rate` under the judge that decides.
    """

    gains: Mapping[str, Interval]
    ratios: Mapping[str, float]
    controlled: Mapping[str, Interval] = field(default_factory=dict)
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """An evaluation of models on prompts under judges.

    Attributes:
        samples_per_prompt: Completions of each model for each of them.
        facts: How far a pairwise judge can be trusted, by judge.
        reference: Name of the model to which the KL is measured; empty without one.
        baseline: Name of the model that the others are compared with; empty without one.
        comparisons: Of each other model with the baseline.
    """

    prompts: int
    samples_per_prompt: int
    measures: Mapping[str, Mapping[str, Interval]]
    win_rates: Mapping[str, WinRates]
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reference: str = ""
    baseline: str = ""
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def decided(self) -> tuple[str, Verdict] | None:
        """The model that was decided on, and the decision; None where nothing was decided."""
        for model, one in self.comparisons.items():
            if one.verdict is not None:
                return model, one.verdict
        return None

    def write(self, out: Path) -> None:
        """Write results.json into a folder; null where there is no number."""
        rates = {
            judge: [
                {"model": row, "over": column, "interval": interval,
                 "controlled": rates.controlled_of(row, column),
                 "prompts": rates.prompts[row, column]}
                for row, column, interval in rates.pairs()
            ]
            for judge, rates in self.win_rates.items()
        }  # fmt: skip
        record = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        write_json(out / RESULTS, record | {"win_rates": rates})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a decision came to, from a published evaluation of any age.

    Attributes:
        reasons: In sentences: of the checks that failed, or of all.
        headline: All of it in one short line; the word alone where no number is known.
        numbers: The few that stand for it, finite ones: `gain`, `gain_low`, `gain_high`, the same
            of `controlled_gain`, `kl`, `length_ratio`.
        cautions: In sentences: what passed, and people should look at first.
        judge: Who decided, as a sentence names it; empty where it is not known.
        independent: Whether that judge has nothing in common with the reward model; None where it
            is not known.
    """

    accepted: bool
    word: str
    reasons: list[str]
    headline: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    judge: str = ""
    independent: bool | None = None
    cautions: Sequence[str] = ()


def read_result(folder: Path) -> EvaluationResult:
    """Read a published results.json."""
    record = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    models = tuple(record["measures"])
    return EvaluationResult(
        prompts=record["prompts"],
        samples_per_prompt=record["samples_per_prompt"],
        measures={
            model: {name: _interval(one) for name, one in measured.items()}
            for model, measured in record["measures"].items()
        },
        win_rates={
            judge: WinRates(
                models=models,
                intervals={
                    (one["model"], one["over"]): _interval(one["interval"]) for one in pairs
                },
                prompts={(one["model"], one["over"]): one["prompts"] for one in pairs},
                controlled={
                    (one["model"], one["over"]): _interval(one["controlled"])
                    for one in pairs
                    if "controlled" in one
                },
            )
            for judge, pairs in record["win_rates"].items()
        },
        facts=record["facts"],
        reference=record["reference"],
        baseline=record["baseline"],
        comparisons={
            model: Comparison(
                gains={name: _interval(gain) for name, gain in one["gains"].items()},
                controlled={
                    name: _interval(gain) for name, gain in one.get("controlled", {}).items()
                },
                ratios={name: _number(value) for name, value in one["ratios"].items()},
                verdict=_verdict(one["verdict"]),
            )
            for model, one in record["comparisons"].items()
        },
    )


def read_outcome(folder: Path) -> Outcome:
    """Read what was decided, from a folder of any age.

    Raises:
        FileNotFoundError: It holds no decision.
    """
    if (folder / OLD_VERDICT).is_file():
        old = json.loads((folder / OLD_VERDICT).read_text(encoding="utf-8"))
        word = "accepted" if old["accepted"] else "rejected"
        return Outcome(
            accepted=old["accepted"], word=word, reasons=old["reasons"], headline=word,
            judge=old.get("judge", ""), independent=old.get("independent"),
        )  # fmt: skip
    result = read_result(folder)
    if result.decided is None:
        raise FileNotFoundError(f"{folder} holds no decision")
    model, verdict = result.decided
    return Outcome(
        accepted=verdict.accepted,
        word=verdict_word(verdict),
        reasons=reasons(verdict, sentence_names(result.baseline, model)),
        cautions=cautions(verdict, sentence_names(result.baseline, model)),
        headline=headline(verdict),
        numbers=_numbers(verdict),
        judge=judge_name(verdict.judge),
        independent=verdict.independent,
    )


def sure_gain(numbers: Mapping[str, float]) -> float:
    """How much a decided model surely gained, by an outcome's numbers; -inf where none is known.

    The lower end at equal length and ending, or of the plain gain where an older record has no
    other.
    """
    return numbers.get("controlled_gain_low", numbers.get("gain_low", -math.inf))


def _numbers(verdict: Verdict) -> dict[str, float]:
    checks = {check.name: check for check in verdict.checks}
    found: dict[str, float] = {}
    for name, check in (("gain", "judged_gain"), ("controlled_gain", "controlled_gain")):
        if check in checks:
            ends = checks[check].numbers
            found |= {name: ends["mean"], f"{name}_low": ends["low"], f"{name}_high": ends["high"]}
    for name, check in (("kl", "kl_to_reference"), ("length_ratio", "length_ratio")):
        if check in checks:
            found[name] = checks[check].value
    return {name: value for name, value in found.items() if math.isfinite(value)}


def sentence_names(baseline: str, model: str) -> Names:
    """What two models are called in sentences."""
    return NAMES.get(baseline, baseline), NAMES.get(model, model)


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Read samples.jsonl, rows of an older layout turned into today's: one row a completion."""
    rows = read_rows(folder / SAMPLES)
    if not rows or "model" in rows[0]:
        return rows
    models = ("sft", "ppo") if "sft" in rows[0] else ("champion", "challenger")
    return [
        {
            "model": model,
            "prompt": row["prompt"],
            "sample": 0,
            "completion": row[model],
            "scores": {
                judge: row[f"{model}_{old}"]
                for judge, old in (("reward", "score"), ("judge", "judge_score"), ("gold", "gold"))
                if f"{model}_{old}" in row
            },
            "kl_to_reference": row.get(f"{model}_kl_to_reference"),
        }
        for row in rows
        for model in models
        if model in row
    ]


def by_prompt(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], ...]]:
    """The first sample of each model, prompt by prompt."""
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["sample"] == 0:
            by_model.setdefault(row["model"], []).append(row)
    return list(zip(*by_model.values(), strict=True))


def side_by_side(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first sample of each prompt, one row a prompt: completions and scores of each model."""
    found = []
    for group in by_prompt(rows):
        found.append({"prompt": group[0]["prompt"]})
        for row in group:
            model = row["model"]
            found[-1][model] = row["completion"]
            for judge, score in row["scores"].items():
                found[-1][f"{model}_{score_name(judge)}"] = score
            if row.get("kl_to_reference") is not None:
                found[-1][f"{model}_kl_to_reference"] = row["kl_to_reference"]
    return found


def _verdict(record: Mapping[str, Any] | None) -> Verdict | None:
    if record is None:
        return None
    checks = tuple(
        Check(
            **{
                **one,
                "value": _number(one["value"]),
                "numbers": {name: _number(value) for name, value in one["numbers"].items()},
            }
        )
        for one in record["checks"]
    )
    return Verdict(**{**record, "checks": checks})


def _interval(record: Mapping[str, Any]) -> Interval:
    return Interval(**{end: _number(record[end]) for end in ("mean", "low", "high")})


def _number(value: float | None) -> float:
    return math.nan if value is None else value
