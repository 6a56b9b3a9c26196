"""The page on people's feedback: who labelled what, how far they agree, and who is far off."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from models.rows import read_json
from tasks.escaping import code_span
from tasks.labelling.agreement import FEWEST, Agreement, Agreements, FarOff, RaterLabels
from tasks.labelling.answers import UNKNOWN
from tasks.reports.style import cell, table
from tasks.run.spec import Page, Result

NAME = 60
"""Characters of a rater's name that are shown."""
OUTCOMES = {
    "decided": "one completion is better",
    "tied": "ties",
    "unrated": "one of the two was not rated",
}


def feedback_page(result: Result, _plots: Path) -> Page:
    """Show whose labels a reward model learns from."""
    found = read_json(result.folder / "feedback.json")
    raters = TypeAdapter(list[RaterLabels]).validate_python(found["raters"])
    agreements = read_agreements(found)
    parts = [
        _named(agreements, raters),
        _labels(raters),
        _agreement(agreements),
        _pairs(result.metrics),
    ]
    return Page(
        title="Whose feedback it is, and how far people agree",
        markdown="\n\n".join(part for part in parts if part),
    )


def read_agreements(found: Mapping[str, Any]) -> Agreements:
    """Read the part of feedback.json about people who rated the same."""
    given = dict(found["agreement"])
    if not isinstance(given["overall"], Mapping):  # nothing was rated twice
        given["overall"] = None
    return TypeAdapter(Agreements).validate_python(given)


def _named(agreements: Agreements, raters: list[RaterLabels]) -> str:
    lines = [_far_off(one) for one in agreements.far_off]
    if agreements.far_off:
        others = [one.rater for one in raters if one.left_out]
        names = ",".join(sorted([*others, *(one.rater for one in agreements.far_off)]))
        lines.append(
            "Look at some of these labels first. "
            f"{code_span(f'feedback.without_raters={names}')} leaves them out."
        )
    if any(one.rater == UNKNOWN for one in raters):
        lines.append(f"Labels of `{UNKNOWN}` are unsigned: nobody says whose they are.")
    return "\n\n".join(lines)


def _far_off(one: FarOff) -> str:
    return (
        f"**{cell(one.rater, NAME)} is far off the others**: {one.alike:.0%} of the pairs are "
        f"ranked as others rank them. The others agree among themselves by {one.difference} more."
    )


def _labels(raters: list[RaterLabels]) -> str:
    rows = [
        (cell(one.rater, NAME), one.labels, one.not_asked, one.ratings,
         "left out" if one.left_out else "")
        for one in raters
    ]  # fmt: skip
    header = ("rater", "labels", "of others' items", "completions rated", "")
    return table(header, rows, text_last=True)


def _agreement(found: Agreements) -> str:
    if found.overall is None:
        return (
            "No item was rated by two people, so nothing is known of how far they agree; "
            "`feedback.rated_twice` is the share of items that two rate."
        )
    rows = [
        _row(" and ".join(cell(one, NAME) for one in two.raters), two) for two in found.by_raters
    ]
    if len(rows) > 1:
        rows.append(_row("all", found.overall))
    header = ("raters", "items", "pairs", "ranked alike [95%]", "kappa")
    few = (
        "Of two raters nothing tells who is right where they disagree. "
        if len(found.by_raters) == 1
        else f"Nobody is called far off on fewer than {FEWEST} items. "
    )
    return (
        f"{table(header, rows)}\n\nRanked alike: the same completion is better, or both find them "
        "equal; half if only one does. Kappa: Cohen's, of the ratings, with quadratic weights; 0 "
        f"is chance. {few}".strip()
    )


def _row(name: str, one: Agreement) -> tuple[object, ...]:
    alike = one.alike
    kappa = f"{one.kappa:.2f}" if math.isfinite(one.kappa) else ""
    ends = f"{alike.mean:.3f} [{alike.low:.3f}, {alike.high:.3f}]"
    return (name, one.items, one.pairs, ends, kappa)


def _pairs(metrics: Mapping[str, float]) -> str:
    rows = [
        (text, f"{metrics[f'feedback/pairs_{name}']:.0f}")
        for name, text in OUTCOMES.items()
        if f"feedback/pairs_{name}" in metrics
    ]
    return table(("pairs of completions", "number"), rows)
