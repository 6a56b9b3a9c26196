"""Markdown tables, as every report has them."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> str:
    """Write a table.

    Args:
        header: Names of the columns.
        rows: Their cells; a bar in one would end it and is escaped by `cell` only.
        text_columns: How many of the first columns are texts; the others are aligned as numbers.
    """
    rules = ["---" if index < text_columns else "---:" for index in range(len(header))]
    lines = [header, rules, *rows]
    return "\n".join(f"| {' | '.join(str(one) for one in line)} |" for line in lines)


def cell(text: str, characters: int) -> str:
    """Fit a text into a cell: one line, cut, no bar that would end it."""
    line = " ".join(text.split())
    line = line if len(line) <= characters else f"{line[: characters - 1]}…"
    return line.replace("|", "\\|")
