"""Win rates of any models under one judge, and how a judge that compares pairs answered."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from models.evaluation.result import EvaluationResult
from models.evaluation.wording import judge_name
from models.statistics.intervals import Interval
from models.statistics.win_rates import WinRates
from tasks.reports.style import CELL, cell, table, with_interval


def win_rate_text(judge: str, rates: WinRates, record: EvaluationResult) -> str:
    """The matrix of a judge's win rates, also at equal length, and how it answered."""
    parts = [
        f"### Win rates under the {judge_name(cell(judge, CELL))}",
        "How often the model of the row is preferred to the model of the column, ties half; above "
        "0.5 the row is better.",
        _square(rates.models, rates.of),
    ]
    if rates.controlled:
        parts += ["At equal length and ending:", _square(rates.models, rates.controlled_of)]
    counts = sorted(set(rates.prompts.values()))
    if counts and counts != [record.prompts]:
        shown = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        parts.append(f"Judged on {shown} of the {record.prompts} prompts.")
    if facts := record.facts.get(judge):
        parts += _about_answers(facts)
    return "\n\n".join(parts)


def _square(models: Sequence[str], rate_of: Callable[[str, str], Interval]) -> str:
    rows = [
        (
            cell(row, CELL),
            *("–" if row == one else with_interval(rate_of(row, one), 3) for one in models),
        )
        for row in models
    ]
    return table(("", *(cell(name, CELL) for name in models)), rows)


def _about_answers(facts: Mapping[str, float]) -> Iterator[str]:
    count = {name: f"{value:.0f}" for name, value in facts.items()}
    told = (
        f"{count['pairs']} pairs of completions, {count['equal_pairs']} of them equal and so ties "
        "without a question"
    )
    if "votes" in facts:
        told += (
            f"; {count['judged']} of {count['items']} others were judged by {count['raters']} "
            f"raters, blind: {count['votes']} votes, {count['tied_votes']} of them ties"
        )
    elif "unreadable_answers" in facts:
        told += (
            f"; the others were shown in both orders. {count['unreadable_answers']} answers could "
            f"not be read, which leaves {count['unreadable_pairs']} pairs out"
        )
    yield f"{told}."
    if "follows_position" in facts:
        share, low, high = (facts[f"follows_position{end}"] for end in ("", "_low", "_high"))
        yield (
            f"**Position bias:** in {share:.1%} [{low:.1%}, {high:.1%}] of the pairs the answer "
            f"followed the position, {facts['prefers_first']:.1%} the first and "
            f"{facts['prefers_second']:.1%} the second; these count as ties. The judge agreed with "
            f"itself in {facts['agrees_with_itself']:.1%}."
        )
    elif "prefers_first" in facts:
        share, low, high = (facts[f"prefers_first{end}"] for end in ("", "_low", "_high"))
        yield (
            f"**Position bias:** {share:.1%} [{low:.1%}, {high:.1%}] of the votes that were no "
            "ties went to the completion shown first."
        )
