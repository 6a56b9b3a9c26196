"""The comparison's tables and texts as plain strings, for HTML and Markdown alike."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.comparison.compare_labels import Difference, differences, label_runs, letter
from tasks.comparison.frontier import frontier_finding
from tasks.comparison.runs import JUDGES, RunRecord
from tasks.comparison.statistics import (
    Best,
    WinRate,
    choose_best,
    gain_of,
    match_prompts,
    percent,
    win_rates,
)

SHOWN_PROMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Header and rows of plain text, not escaped for anything."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt with each model's completion: (who, completion, what the judges say)."""

    prompt: str
    completions: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that a report says, before it is laid out.

    Attributes:
        labels: One a run.
        best: The best run and why.
        headline: One row a run.
        notes: What a reader must know.
        reasons: Of each rejected run (its letter, sentences).
        parameters: Those that differ.
        parameters_equal: How many do not.
        facts: Versions and commits that differ.
        rates: For the picture.
        wins: The same as a table.
        finding: What score against KL shows, in a sentence.
        samples: Completions side by side.
        prompts: How many prompts all runs completed.
    """

    labels: list[str]
    best: Best
    headline: Table
    notes: list[str]
    reasons: list[tuple[str, list[str]]]
    parameters: Table
    parameters_equal: int
    facts: Table
    rates: list[WinRate]
    wins: Table
    finding: str
    samples: list[Sample]
    prompts: int


def compile_contents(records: Sequence[RunRecord]) -> Contents:
    """Work out all that the report of these runs says."""
    rates = win_rates(records)
    differing, equal = differences([record.parameters for record in records])
    facts, _ = differences([record.facts for record in records])
    sampled = [(index, record) for index, record in enumerate(records) if record.samples]
    return Contents(
        labels=label_runs(records),
        best=choose_best(records, rates),
        headline=_headline(records),
        notes=list(_notes(records)),
        reasons=[
            (letter(index), list(record.reasons))
            for index, record in enumerate(records)
            if record.verdict == "rejected"
        ],
        parameters=_difference_table("parameter", differing, len(records)),
        parameters_equal=equal,
        facts=_difference_table("code and libraries", facts, len(records)),
        rates=rates,
        wins=_wins(rates),
        finding=frontier_finding(records),
        samples=_samples(sampled),
        prompts=len(match_prompts([record for _, record in sampled])) if sampled else 0,
    )


def _headline(records: Sequence[RunRecord]) -> Table:
    judge = next((name for name in JUDGES if any(gain_of(one, name) for one in records)), "score")
    others = [] if judge == "score" else ["score gain"]
    header = ("", "run", "verdict", f"gain by the {JUDGES[judge]}", *others)
    rows = []
    for index, record in enumerate(records):
        gains = [_gain(record, name) for name in ([judge, "score"] if others else [judge])]
        rows.append(
            (
                letter(index),
                f"{record.name} ({record.run_id[:8]})",
                record.verdict or f"not evaluated, {record.status.lower()}",
                *gains,
                _number(record.final.get("kl_to_reference"), ".2f"),
                _with_ratio(record.final, "length", ".1f"),
                _with_ratio(record.final, "distinct_2", ".3f"),
                f"{_number(record.seconds, ',.0f')} ({record.computed} of {len(record.stages)})",
            )
        )
    measures = ("KL to SFT (nats)", "length (tokens)", "distinct-2", "seconds (stages computed)")
    return Table(header=(*header, *measures), rows=tuple(rows))


def _gain(record: RunRecord, judge: str) -> str:
    gain = gain_of(record, judge)
    return str(gain) if gain is not None else _number(record.final.get(f"{judge}_gain"), "+.3f")


def _with_ratio(final: Mapping[str, float], name: str, form: str) -> str:
    """A policy's number, and how many times its SFT model's it is."""
    text = _number(final.get(f"{name}_ppo"), form)
    ratio = final.get(f"{name}_ratio")
    return text if ratio is None else f"{text} (×{ratio:.2f})"


def _number(value: float | None, form: str) -> str:
    return f"{value:{form}}" if value is not None and math.isfinite(value) else "–"


def _notes(records: Sequence[RunRecord]) -> Iterator[str]:
    for index, record in enumerate(records):
        for note in record.notes:
            yield f"{letter(index)}: {note}."
    judged = [record for record in records if record.verdict]
    if len({record.judges.get("score") for record in judged}) > 1:
        yield (
            "The runs have different reward models, each with a scale of its own: their scores and "
            "score gains cannot be compared with each other."
        )
    if len({record.sft for record in judged}) > 1:
        yield (
            "The runs start from different SFT models: a gain over the one is no gain over the "
            "other, so only the head-to-head win rates tell which policy is better."
        )


def _difference_table(title: str, rows: Sequence[Difference], runs: int) -> Table:
    return Table(
        header=(title, *(letter(index) for index in range(runs))),
        rows=tuple((row.name, *(value or "–" for value in row.values)) for row in rows),
    )


def _wins(rates: Sequence[WinRate]) -> Table:
    rows = []
    for row in rates:
        other = "its SFT model" if row.second is None else letter(row.second)
        share = row.note or percent(row.rate)
        rows.append(
            (f"{letter(row.first)} against {other}", share, row.judge or "–", str(row.prompts))
        )
    header = ("", "prompts won, ties half [95% interval]", "judge", "prompts")
    return Table(header=header, rows=tuple(rows))


def _samples(sampled: Sequence[tuple[int, RunRecord]]) -> list[Sample]:
    """Prompts at even distances, of those on which not all policies say the same."""
    if not sampled:
        return []
    rows = match_prompts([record for _, record in sampled])
    differing = [row for row in rows if len({str(one["ppo"]) for one in row}) > 1] or rows
    step = max(1, len(differing) // SHOWN_PROMPTS)
    shared_sft = len({record.sft for _, record in sampled}) == 1
    found = []
    for row in differing[::step][:SHOWN_PROMPTS]:
        completions: list[tuple[str, str, str]] = []
        for (index, _), one in zip(sampled, row, strict=True):
            if not shared_sft or not completions:
                who = "SFT" if shared_sft else f"{letter(index)}'s SFT"
                completions.append((who, str(one["sft"]), _judged(one, "sft")))
            completions.append((letter(index), str(one["ppo"]), _judged(one, "ppo")))
        found.append(Sample(prompt=str(row[0]["prompt"]), completions=tuple(completions)))
    return found


def _judged(row: Mapping[str, Any], model: str) -> str:
    """What each judge says of a completion: ``gold 1.00, score +0.93``."""
    forms = {"gold": "gold {:.2f}", "judge_score": "judge {:+.2f}", "score": "score {:+.2f}"}
    return ", ".join(
        form.format(float(row[f"{model}_{name}"]))
        for name, form in forms.items()
        if f"{model}_{name}" in row
    )
