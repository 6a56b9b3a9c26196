"""Who wins how often, and which run is best: pure functions on what is known of the runs.

Scores of two runs are compared only where the same judge gave them for the same prompts.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from models.randomness import derive_seed
from models.statistics.controlled import Extent
from models.statistics.intervals import Floats, Interval
from models.statistics.win_rates import (
    controlled_rate,
    preference_interval,
    prompt_preferences,
)
from tasks.comparison.runs import JUDGES, Completion, RunRecord, Sample, letter

RESAMPLES = 2000

TIE = 1e-5
"""Scores as near as this, absolutely or relatively, are equal: float32 is no surer."""

LOST = {"rejected": "rejected", "not enough prompts": "measured on too few prompts"}
"""Verdicts that are not accepted, and what a sentence says of such runs."""

UNKNOWN = Interval(mean=math.nan, low=math.nan, high=math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often one run's policy is judged better than another's.

    Attributes:
        first: Index of the run.
        second: Index of the run it is compared with; None: its own SFT model.
        judge: Such as "gold judge".
        rate: Share of prompts won, ties half, with its 95% interval; NaN where unknown.
        controlled: The same at equal length and ending; NaN where that cannot be told.
        note: Why it is unknown.
    """

    first: int
    second: int | None
    judge: str = ""
    prompts: int = 0
    rate: Interval = UNKNOWN
    controlled: Interval = UNKNOWN
    note: str = ""

    def __str__(self) -> str:
        """Such as "A against its SFT model"."""
        other = "its SFT model" if self.second is None else letter(self.second)
        return f"{letter(self.first)} against {other}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best run's index, or None where nothing tells, and why in a sentence."""

    index: int | None
    sentence: str


def same_judge(records: Sequence[RunRecord], among: Sequence[str] = tuple(JUDGES)) -> str | None:
    """The most trusted judge that judged all these runs, the very same one each time."""
    for name in among:
        found = {record.judges.get(name) for record in records}
        if len(found) == 1 and None not in found:
            return name
    return None


def match_prompts(records: Sequence[RunRecord]) -> list[tuple[Sample, ...]]:
    """Samples of the prompts that all runs completed, in the first run's order."""
    tables = [{(one.key, one.turn): one for one in record.samples} for record in records]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    return [tuple(table[key] for table in tables) for key in shared]


def win_rate(pairs: Sequence[tuple[float, float]], seed: int = 0) -> Interval:
    """Share of prompts, one pair each, whose second score is higher; ties half, 95% interval."""
    wins = _wins(pairs)
    if wins is None:
        return UNKNOWN
    drawing = derive_seed(seed, "compare.win_rate")
    return preference_interval(wins, resamples=RESAMPLES, seed=drawing)


def controlled_win_rate(
    scores: Sequence[tuple[float, float]], pairs: Sequence[tuple[Completion, Completion]]
) -> Interval:
    """The same at equal length and ending; NaN where older evaluations do not tell of these."""
    wins = _wins(scores)
    lengths = np.array([[one.tokens for one in pair] for pair in pairs], dtype=np.float64)
    if wins is None or not np.isfinite(lengths).all():
        return UNKNOWN
    ended = np.array([[one.finished for one in pair] for pair in pairs])
    first, second = (
        Extent(lengths=lengths[:, side : side + 1], ended=ended[:, side : side + 1])
        for side in (0, 1)
    )
    return controlled_rate(wins, first, second)


def _wins(pairs: Sequence[tuple[float, float]]) -> Floats | None:
    """Whether the second score of each pair is higher, (prompts,); ties half, None if unknown."""
    scores = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if not len(scores) or not np.isfinite(scores).all():
        return None
    first, second = scores[:, :1], scores[:, 1:]
    # Two runs may have scored one completion in different batches, which moves the last digits.
    first = np.where(np.isclose(first, second, rtol=TIE, atol=TIE), second, first)
    return prompt_preferences(second, first)


def win_rates(records: Sequence[RunRecord]) -> list[WinRate]:
    """Each run's policy against its SFT model, then the policies against each other."""
    pairs = combinations(range(len(records)), 2)
    against_sft = [_against_sft(index, record) for index, record in enumerate(records)]
    return [*against_sft, *(head_to_head(records, *pair) for pair in pairs)]


def head_to_head(
    records: Sequence[RunRecord], first: int, second: int, among: Sequence[str] = tuple(JUDGES)
) -> WinRate:
    """The first run's policy against the second's, by the judge that they share."""
    both = [records[first], records[second]]
    judge = same_judge(both, among)
    note = "no prompt in common"
    if not all(record.samples for record in both):
        note = "no judged samples"
    elif judge is None:
        note = "scored by different reward models: not comparable"
    # One seed for both directions: the interval of the one is the other's, mirrored.
    seed = 100 * min(first, second) + max(first, second)
    completions = [(theirs.ppo, own.ppo) for own, theirs in match_prompts(both)]
    return _judged(WinRate(first=first, second=second, note=note), judge, completions, seed)


def gain_of(record: RunRecord, judge: str) -> Interval | None:
    """The gain over SFT that an evaluation found by a judge."""
    ends = [record.final.get(f"{judge}_gain{end}", math.nan) for end in ("", "_low", "_high")]
    if not all(math.isfinite(end) for end in ends):
        return None
    return Interval(mean=ends[0], low=ends[1], high=ends[2])


def choose_best(records: Sequence[RunRecord]) -> Best:
    """Choose the accepted run with the highest lower end of its judged gain, if it is sure.

    That is the gain at equal length and ending where all their evaluations have it, by the judge
    that decided on them all.

    It is not sure while another accepted run's interval overlaps, unless the two policies' direct
    comparison on the same prompts, which is the sharper test, lies above one half, at equal length
    where the gains are.
    """
    accepted = [index for index, record in enumerate(records) if record.verdict == "accepted"]
    judge = deciding_judge(records)
    sure: dict[int, Interval] = {}
    measure, at_equal = JUDGES.get(judge or "", ""), ""
    for name, said in ((f"{judge}_controlled", " at equal length"), (judge, "")):
        gains = {index: gain_of(records[index], str(name)) for index in accepted}
        sure = {index: gain for index, gain in gains.items() if gain is not None}
        if len(sure) == len(accepted):
            at_equal = said
            break
    if not accepted:
        evaluated = any(record.verdict for record in records)
        why = "no evaluated run was accepted" if evaluated else "no run was evaluated"
    elif judge is None:
        why = _no_common_judge(records[index] for index in accepted)
    elif len(sure) < len(accepted):
        why = "an accepted run's gain has no interval to compare"
    else:
        return _weigh(records, sure, f"{measure}{at_equal}", (str(judge),), at_equal)
    return Best(index=None, sentence=f"No winner: {why}.")


def percent(interval: Interval) -> str:
    """Write a share with its interval: ``52% [49%, 55%]``; a dash where it is not known."""
    if not math.isfinite(interval.low):
        return "–"
    return f"{interval.mean:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def keep_whole(text: str) -> str:
    """Let no line break fall within an interval's brackets."""
    space = "\N{NO-BREAK SPACE}"
    return re.sub(r"\[[-+.,%\de ]*\]", lambda found: found[0].replace(" ", space), text)


def deciding_judge(records: Sequence[RunRecord]) -> str | None:
    """The judge by which accepted runs are compared: the one that decided on all, if one did.

    Else any that judged all, but for the one PPO maximised; where that one decided itself, or
    older records do not tell who did, it may choose too.
    """
    accepted = [record for record in records if record.verdict == "accepted"]
    deciders = {record.decided_by for record in accepted}
    named = [name for name, said in JUDGES.items() if deciders == {said}]
    own = deciders <= {"", JUDGES["score"]}
    return same_judge(accepted, named or [name for name in JUDGES if own or name != "score"])


def _no_common_judge(accepted: Iterable[RunRecord]) -> str:
    pairwise = {record.decided_by for record in accepted} - {"", *JUDGES.values()}
    if pairwise:
        return (
            f"the {' and the '.join(sorted(pairwise))} decided, which compares completions of one "
            "run, and no judge that PPO did not learn from scored all accepted runs"
        )
    return (
        "the accepted runs were judged by different reward models, whose scores are not on one "
        "scale"
    )


def _weigh(
    records: Sequence[RunRecord],
    gains: Mapping[int, Interval],
    judge: str,
    among: Sequence[str],
    at_equal: str,
) -> Best:
    """Choose among gains; those over different SFT models are settled head to head alone."""

    def direct(first: int, second: int) -> Interval:
        found = head_to_head(records, first, second, among)
        return found.controlled if at_equal else found.rate

    leader = max(gains, key=lambda index: gains[index].low)
    same_start = len({records[index].sft for index in gains}) == 1
    if not same_start:
        beats_all = (
            one for one in gains if all(direct(one, two).low > 0.5 for two in gains.keys() - {one})
        )
        leader = next(beats_all, leader)
    name, measured = letter(leader), f"gain over SFT of {gains[leader]} by the {judge}"
    doubts = []
    for index in sorted(gains.keys() - {leader}):
        rate = direct(leader, index)
        apart = same_start and gains[leader].low > gains[index].high
        if not apart and not rate.low > 0.5:
            why = "overlaps" if same_start else "is over another SFT model"
            known = math.isfinite(rate.mean)
            head = f"; head to head{at_equal} {name} wins {percent(rate)}" if known else ""
            doubts.append(f"{letter(index)}'s {gains[index]} {why}{head}")
    if doubts:
        sentence = f"No winner: {name} has the surest {measured}, but {', and '.join(doubts)}"
    elif len(gains) == 1:
        sentence = f"{name} is best: it alone was accepted, with a {measured}"
    elif not same_start:
        sentence = (
            f"{name} is best: accepted, with a {measured}, and it wins head to head{at_equal} "
            "against every other accepted run"
        )
    else:
        sentence = f"{name} is best: accepted, with the highest sure {measured}"
    for verdict, became in LOST.items():
        lost = [letter(index) for index, one in enumerate(records) if one.verdict == verdict]
        if lost:
            sentence += f"; {' and '.join(lost)} {'was' if len(lost) == 1 else 'were'} {became}"
    return Best(index=None if doubts else leader, sentence=f"{sentence}.")


def _against_sft(index: int, record: RunRecord) -> WinRate:
    completions = [(sample.sft, sample.ppo) for sample in record.samples]
    plain = WinRate(first=index, second=None, note="no judged samples")
    return _judged(plain, same_judge([record]), completions, index)


def _judged(
    plain: WinRate, judge: str | None, pairs: Sequence[tuple[Completion, Completion]], seed: int
) -> WinRate:
    """Fill a win rate from pairs of completions, of which the second should win."""
    if judge is None:
        return plain
    scored = [pair for pair in pairs if all(judge in one.scores for one in pair)]
    if not scored:
        return plain
    scores = [(first.scores[judge], second.scores[judge]) for first, second in scored]
    return replace(
        plain,
        judge=JUDGES[judge],
        prompts=len(scores),
        rate=win_rate(scores, seed),
        controlled=controlled_win_rate(scores, scored),
        note="",
    )
