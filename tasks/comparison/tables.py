"""All that a comparison says, as plain text and tables: HTML and Markdown only lay it out."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.comparison.frontier import frontier_finding
from tasks.comparison.runs import JUDGES, Completion, RunRecord, letter
from tasks.comparison.statistics import (
    Best,
    WinRate,
    choose_best,
    deciding_judge,
    gain_of,
    match_prompts,
    percent,
    win_rates,
)

SHOWN_PROMPTS = 10

SHOWN_DIFFERENCES = 3
"""Parameters that a label has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Header and rows of plain text, not escaped for anything."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that a report says, before it is laid out.

    Attributes:
        reasons: Of each rejected run (its letter, sentences).
        parameters: Those that differ.
        facts: Versions and commits that differ.
        wins: The win rates as a table.
        finding: What score against KL shows, in a sentence.
        samples: Prompts, each with all models' completions.
        prompts: Number of prompts that all runs completed.
    """

    labels: list[str]
    best: Best
    headline: Table
    notes: list[str]
    reasons: list[tuple[str, Sequence[str]]]
    parameters: Table
    parameters_equal: int
    facts: Table
    rates: list[WinRate]
    wins: Table
    finding: str
    samples: list[tuple[str, Table]]
    prompts: int


def compile_contents(records: Sequence[RunRecord]) -> Contents:
    """Work out all that the report of these runs says."""
    rates = win_rates(records)
    parameters, equal = differences("parameter", [record.parameters for record in records])
    facts, _ = differences("code and libraries", [record.facts for record in records])
    samples, prompts = _samples(records)
    return Contents(
        labels=label_runs(records),
        best=choose_best(records),
        headline=_headline(records),
        notes=list(_notes(records)),
        reasons=[
            (letter(index), record.reasons)
            for index, record in enumerate(records)
            if record.verdict not in ("", "accepted")
        ],
        parameters=parameters,
        parameters_equal=equal,
        facts=facts,
        rates=rates,
        wins=Table(
            header=(
                "",
                "prompts won, ties half [95% interval]",
                "at equal length and ending",
                "judge",
                "prompts",
            ),
            rows=[
                (
                    str(one),
                    one.note or percent(one.rate),
                    percent(one.controlled),
                    one.judge or "–",
                    str(one.prompts),
                )
                for one in rates
            ],
        ),
        finding=frontier_finding(records),
        samples=samples,
        prompts=prompts,
    )


def differences(title: str, runs: Sequence[Mapping[str, str]]) -> tuple[Table, int]:
    """Return the keys whose values differ between the runs, and how many are equal."""
    keys = dict.fromkeys(key for run in runs for key in run)
    values = {key: [run.get(key) for run in runs] for key in keys}
    rows = [(key, *(one or "–" for one in row)) for key, row in values.items() if len(set(row)) > 1]
    header = (title, *(letter(index) for index in range(len(runs))))
    return Table(header=header, rows=rows), len(values) - len(rows)


def label_runs(records: Sequence[RunRecord]) -> list[str]:
    """Name each run by letter, name and what it differs in; equal names get the id's beginning."""
    names = Counter(record.name for record in records)
    labels = []
    for index, (record, short) in enumerate(zip(records, short_differences(records), strict=True)):
        name = record.name if names[record.name] == 1 else f"{record.name} {record.run_id[:8]}"
        labels.append(f"{letter(index)}: {name}" + (f" ({short})" if short else ""))
    return labels


def short_differences(records: Sequence[RunRecord]) -> list[str]:
    """Say for each run how it differs, in few words: ``kl_coef 0.08``.

    A dotted name keeps its last word, and the one before where that alone is not enough.
    """
    rows = differences("", [record.parameters for record in records])[0].rows
    ends = Counter(row[0].rpartition(".")[2] for row in rows)
    texts = []
    for column in range(1, len(records) + 1):
        words = []
        for row in rows[:SHOWN_DIFFERENCES]:
            name = row[0].split(".")
            words.append(f"{'.'.join(name[-1 if ends[name[-1]] == 1 else -2 :])} {row[column]}")
        more = len(rows) - SHOWN_DIFFERENCES
        texts.append(", ".join(words) + (f" and {more} more" if more > 0 else ""))
    return texts


def _headline(records: Sequence[RunRecord]) -> Table:
    asked = [deciding_judge(records), *JUDGES]  # who decided stands first
    judge = next(
        (name for name in asked if name and any(gain_of(one, name) for one in records)), "score"
    )
    judges = {"score": "score gain"} if judge != "score" else {}
    equal = f"{judge}_controlled"
    if any(gain_of(one, equal) for one in records):
        judges = {equal: "the same at equal length and ending"} | judges
    judges = {judge: f"gain by the {JUDGES[judge]}"} | judges
    rows = [
        (
            letter(index),
            f"{record.name} ({record.run_id[:8]})",
            record.verdict or f"not evaluated, {record.status.lower()}",
            *(_gain(record, name) for name in judges),
            _number(record.final.get("kl_to_reference"), ".2f"),
            _with_ratio(record.final, "length", ".1f"),
            _with_ratio(record.final, "distinct_2", ".3f"),
            f"{_number(record.seconds, ',.0f')} ({record.computed} of {len(record.stages)})",
        )
        for index, record in enumerate(records)
    ]
    measures = ("KL to SFT (nats)", "length (tokens)", "distinct-2", "seconds (stages computed)")
    return Table(header=("", "run", "verdict", *judges.values(), *measures), rows=rows)


def _gain(record: RunRecord, judge: str) -> str:
    gain = gain_of(record, judge)
    return str(gain) if gain is not None else _number(record.final.get(f"{judge}_gain"), "+.3f")


def _with_ratio(final: Mapping[str, float], name: str, form: str) -> str:
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
            "The runs start from different SFT models: gains over different models cannot be "
            "compared, so only the head-to-head win rates tell which policy is better."
        )


def _samples(records: Sequence[RunRecord]) -> tuple[list[tuple[str, Table]], int]:
    """Prompts at even distances among those whose completions differ, and how many all share."""
    sampled = {letter(index): record for index, record in enumerate(records) if record.samples}
    if not sampled:
        return [], 0
    matched = match_prompts(list(sampled.values()))
    differing = [row for row in matched if len({one.ppo.text for one in row}) > 1] or matched
    step = max(1, len(differing) // SHOWN_PROMPTS)
    shared_sft = len({record.sft for record in sampled.values()}) == 1
    shown = []
    for row in differing[::step][:SHOWN_PROMPTS]:
        cells = [_cells("SFT", row[0].sft)] if shared_sft else []
        for who, one in zip(sampled, row, strict=True):
            cells += [] if shared_sft else [_cells(f"{who}'s SFT", one.sft)]
            cells.append(_cells(who, one.ppo))
        shown.append((row[0].prompt, Table(header=("", "completion", "judged"), rows=cells)))
    return shown, len(matched)


def _cells(who: str, completion: Completion) -> tuple[str, str, str]:
    forms = {
        "gold": "gold {:.2f}",
        "judge_score": "held-out {:+.2f}",
        "vader_score": "sentiment {:+.2f}",
        "score": "score {:+.2f}",
    }
    scores = completion.scores
    judged = ", ".join(form.format(scores[name]) for name, form in forms.items() if name in scores)
    return who, completion.text, judged
