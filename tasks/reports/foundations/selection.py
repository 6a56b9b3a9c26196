"""The page of a selection: how much of a corpus was dropped, why, and examples of each reason."""

from pathlib import Path

from models.rows import iterate_rows, read_json
from tasks.reports.style import cell, table
from tasks.run.spec import Page, Result

EXAMPLES = 2
"""Of each reason."""
TEXT = 160
"""Characters of a text in a cell."""


def selection_page(result: Result, plots: Path) -> Page:
    """Show counts by reason, held-out documents that the corpus holds, and what was dropped."""
    metrics, rows = result.metrics, result.metrics["select/rows"]
    reasons: dict[str, int] = read_json(result.folder / "selection.json")["reasons"]
    counts = [(reason, f"{count:,}", f"{count / rows:.1%}") for reason, count in reasons.items()]
    kept = metrics["select/kept"]
    counts.append(("kept", f"{kept:,.0f}", f"{kept / rows:.1%}"))
    left: dict[str, int] = {}
    shown = []
    for row in iterate_rows(result.folder / "dropped.jsonl"):
        reason = row["reason"]
        left[reason] = left.get(reason, EXAMPLES) - 1
        if left[reason] >= 0:
            shown.append((reason, cell(row["text"], TEXT), cell(row.get("of", ""), TEXT)))
    shown.sort(key=lambda one: list(reasons).index(one[0]))
    return Page(
        title="What is worth training on",
        markdown="\n\n".join(
            (
                table(("reason", "documents", "share"), counts),
                f"Of the held-out documents {metrics['select/heldout_exact']:,.0f} stand in the "
                f"corpus, {metrics['select/heldout_near']:,.0f} nearly do.",
                table(("reason", "dropped", "repeats"), shown, text_columns=3),
            )
        ),
    )
