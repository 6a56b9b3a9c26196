"""What differs between compared runs, and how each is named: letter, name, what it differs in."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.comparison.runs import RunRecord

SHOWN_DIFFERENCES = 3
"""Parameters that a label has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One parameter that differs, with its value in each run; None where a run lacks it."""

    name: str
    values: tuple[str | None, ...]


def letter(index: int) -> str:
    """The short name of a run in tables and pictures: A, B, C …"""
    return chr(ord("A") + index)


def differences(runs: Sequence[Mapping[str, str]]) -> tuple[list[Difference], int]:
    """Return the keys whose values differ between the runs, and how many are equal."""
    keys = list(dict.fromkeys(key for run in runs for key in run))
    rows = [Difference(name=key, values=tuple(run.get(key) for run in runs)) for key in keys]
    differing = [row for row in rows if len(set(row.values)) > 1]
    return differing, len(rows) - len(differing)


def short_differences(records: Sequence[RunRecord]) -> list[str]:
    """Say for each run how it differs, in as few words as tell: ``kl_coef 0.08``."""
    rows, _ = differences([record.parameters for record in records])
    ends = Counter(row.name.rpartition(".")[2] for row in rows)
    texts = []
    for index in range(len(records)):
        words = [
            f"{_short_name(row.name, ends)} {row.values[index] or '–'}"
            for row in rows[:SHOWN_DIFFERENCES]
        ]
        more = len(rows) - SHOWN_DIFFERENCES
        texts.append(", ".join(words) + (f" and {more} more" if more > 0 else ""))
    return texts


def label_runs(records: Sequence[RunRecord]) -> list[str]:
    """Name each run by letter, name and what it differs in; equal names get the id's beginning."""
    names = Counter(record.name for record in records)
    labels = []
    for index, (record, short) in enumerate(zip(records, short_differences(records), strict=True)):
        name = record.name if names[record.name] == 1 else f"{record.name} {record.run_id[:8]}"
        labels.append(f"{letter(index)}: {name}" + (f" ({short})" if short else ""))
    return labels


def _short_name(name: str, ends: Counter[str]) -> str:
    """The last word of a dotted name, with the one before where the last alone is not enough."""
    words = name.split(".")
    return words[-1] if ends[words[-1]] == 1 else ".".join(words[-2:])
