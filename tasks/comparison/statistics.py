"""Who wins how often, and which run is best: pure functions on what is known of the runs.

Numbers of two runs are compared only where the same judge gave them for the same prompts.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from models.randomness import derive_seed
from models.statistics.intervals import Interval
from models.statistics.win_rates import preference_interval, prompt_preferences
from tasks.comparison.compare_labels import letter
from tasks.comparison.runs import JUDGES, RunRecord

RESAMPLES = 2000

TIE = 1e-5
"""Scores as near as this, absolutely or relatively, are equal: float32 is no surer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often one policy's completion is judged better than another's.

    Attributes:
        first: Index of the run whose policy it is.
        second: Index of the run it is held against; None: its own SFT model.
        judge: Such as "gold judge"; empty where none can judge both.
        prompts: That both have completed.
        rate: Share of prompts won, ties counted half, with its 95% interval; NaN where unknown.
        note: Why it is unknown.
    """

    first: int
    second: int | None
    judge: str = ""
    prompts: int = 0
    rate: Interval
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best run's index, or None where nothing tells, and why in a sentence."""

    index: int | None
    sentence: str


def same_judge(records: Sequence[RunRecord]) -> str | None:
    """The most trusted judge that judged all these runs, the very same one each time."""
    for name in JUDGES:
        found = {record.judges.get(name) for record in records}
        if len(found) == 1 and None not in found:
            return name
    return None


def match_prompts(records: Sequence[RunRecord]) -> list[tuple[Mapping[str, Any], ...]]:
    """Rows of the prompts that all runs completed, in the first run's order.

    A prompt that stands twice is matched by its turn.
    """
    tables = [_by_prompt(record.samples) for record in records]
    return [
        tuple(table[key] for table in tables)
        for key in tables[0]
        if all(key in table for table in tables)
    ]


def win_rate(pairs: Sequence[tuple[float, float]], seed: int = 0) -> Interval:
    """Share of prompts on which the second number is higher, ties half, with its 95% interval.

    Args:
        pairs: (first, second) judged numbers, one pair a prompt.
        seed: Of the bootstrap over prompts.
    """
    numbers = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if not len(numbers) or not np.isfinite(numbers).all():
        return _nothing()
    first, second = numbers[:, :1], numbers[:, 1:]
    # Two runs may have scored one completion in other company, which moves the last digits.
    first = np.where(np.isclose(first, second, rtol=TIE, atol=TIE), second, first)
    wins = prompt_preferences(second, first)  # (prompts,)
    drawing = derive_seed(seed, "compare.win_rate")
    return preference_interval(wins, resamples=RESAMPLES, seed=drawing)


def win_rates(records: Sequence[RunRecord]) -> list[WinRate]:
    """Each run's policy against its SFT model, then the policies against each other."""
    against_sft = [_against_sft(index, record) for index, record in enumerate(records)]
    between = [_between(records, *pair) for pair in combinations(range(len(records)), 2)]
    return [*against_sft, *between]


def gain_of(record: RunRecord, judge: str) -> Interval | None:
    """The gain over SFT that an evaluation found by a judge."""
    ends = [record.final.get(f"{judge}_gain{end}", math.nan) for end in ("", "_low", "_high")]
    if not all(math.isfinite(end) for end in ends):
        return None
    return Interval(mean=ends[0], low=ends[1], high=ends[2])


def choose_best(records: Sequence[RunRecord], rates: Sequence[WinRate]) -> Best:
    """Choose the accepted run with the highest lower end of its judged gain, if it is sure.

    It is not sure while another accepted run's interval overlaps, unless the two policies' direct
    comparison on the same prompts, which is the sharper test, lies above one half.
    """
    accepted = [index for index, record in enumerate(records) if record.verdict == "accepted"]
    if not accepted:
        evaluated = sum(bool(record.verdict) for record in records)
        what = "no run was evaluated" if not evaluated else "no evaluated run was accepted"
        return Best(index=None, sentence=f"No winner: {what}.")
    judge = same_judge([records[index] for index in accepted])
    if judge is None:
        return Best(
            index=None,
            sentence="No winner: the accepted runs were judged by different reward models, whose "
            "scores are not on one scale.",
        )
    gains = {
        index: gain for index in accepted if (gain := gain_of(records[index], judge)) is not None
    }
    if len(gains) < len(accepted):
        return Best(
            index=None, sentence="No winner: an accepted run's gain has no interval to compare."
        )
    same_start = len({records[index].sft for index in accepted}) == 1
    return _weigh(gains, JUDGES[judge], rates, same_start, _rejected(records))


def _weigh(
    gains: Mapping[int, Interval],
    judge: str,
    rates: Sequence[WinRate],
    same_start: bool,
    rejected: str,
) -> Best:
    """Choose among gains; those over different SFT models are settled head to head alone."""
    leader = max(gains, key=lambda index: gains[index].low)
    measured = f"gain over SFT of {gains[leader]} by the {judge}"
    if len(gains) == 1:
        sentence = f"{letter(leader)} is best: it alone was accepted, with a {measured}"
        return Best(index=leader, sentence=f"{sentence}{rejected}.")
    unsure = []
    for index in sorted(gains.keys() - {leader}):
        direct = _direct(rates, leader, index)
        apart = same_start and gains[leader].low > gains[index].high
        if not apart and not (direct and direct.low > 0.5):
            head = f"; head to head {letter(leader)} wins {percent(direct)}" if direct else ""
            why = "overlaps" if same_start else "is over another SFT model"
            unsure.append(f"{letter(index)}'s {gains[index]} {why}{head}")
    if unsure:
        sentence = (
            f"No winner: {letter(leader)} has the surest {measured}, but {', and '.join(unsure)}"
        )
        return Best(index=None, sentence=f"{sentence}{rejected}.")
    sentence = f"{letter(leader)} is best: accepted, with the highest sure {measured}"
    return Best(index=leader, sentence=f"{sentence}{rejected}.")


def _rejected(records: Sequence[RunRecord]) -> str:
    names = [letter(i) for i, record in enumerate(records) if record.verdict == "rejected"]
    if not names:
        return ""
    return f"; {' and '.join(names)} {'was' if len(names) == 1 else 'were'} rejected"


def percent(interval: Interval) -> str:
    """Write a share with its interval: ``52% [49%, 55%]``."""
    low, high = f"{interval.low:.0%}", f"{interval.high:.0%}"
    return f"{interval.mean:.0%} [{low}, {high}]"


def _direct(rates: Sequence[WinRate], first: int, second: int) -> Interval | None:
    """The share of prompts that the first run's policy wins against the second's."""
    for row in rates:
        if row.note or row.second is None:
            continue
        if (row.first, row.second) == (first, second):
            return row.rate
        if (row.first, row.second) == (second, first):
            rate = row.rate
            return Interval(mean=1 - rate.mean, low=1 - rate.high, high=1 - rate.low)
    return None


def _against_sft(index: int, record: RunRecord) -> WinRate:
    judge = same_judge([record])
    columns = (f"sft_{judge}", f"ppo_{judge}")
    pairs = list(_numbers([(row, row) for row in record.samples], columns))
    if judge is None or not pairs:
        return WinRate(first=index, second=None, rate=_nothing(), note="no judged samples")
    rate = win_rate(pairs, index)
    return WinRate(first=index, second=None, judge=JUDGES[judge], prompts=len(pairs), rate=rate)


def _between(records: Sequence[RunRecord], first: int, second: int) -> WinRate:
    chosen = [records[second], records[first]]  # the win is the second number's
    note = "no judged samples"
    judge = same_judge(chosen)
    if all(record.samples for record in chosen):
        note = "scored by different reward models: not comparable"
        if judge is not None:
            rows = match_prompts(chosen)
            pairs = list(_numbers(rows, (f"ppo_{judge}", f"ppo_{judge}")))
            if pairs:
                rate = win_rate(pairs, 100 * first + second)
                return WinRate(
                    first=first, second=second, judge=JUDGES[judge], prompts=len(pairs), rate=rate
                )
            note = "no prompt in common"
    return WinRate(first=first, second=second, rate=_nothing(), note=note)


def _numbers(
    rows: Sequence[tuple[Mapping[str, Any], ...]], columns: tuple[str, str]
) -> Iterator[tuple[float, float]]:
    for first, second in rows:
        if columns[0] in first and columns[1] in second:
            yield float(first[columns[0]]), float(second[columns[1]])


def _by_prompt(samples: Sequence[Mapping[str, Any]]) -> dict[Hashable, Mapping[str, Any]]:
    turns: Counter[str] = Counter()
    table: dict[Hashable, Mapping[str, Any]] = {}
    for row in samples:
        table[row["prompt"], turns[row["prompt"]]] = row
        turns[row["prompt"]] += 1
    return table


def _nothing() -> Interval:
    return Interval(mean=math.nan, low=math.nan, high=math.nan)
