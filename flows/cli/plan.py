"""The plan of a run in the terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from flows.cli.terminal import add_row, as_text
from flows.planning.plan import Plan


def print_plan(plan: Plan) -> None:
    """Print a plan's tables and what they come to."""
    console = Console(highlight=False)
    console.print(_table("Plan", Plan.HEADER, plan.rows(), texts=2))
    memory = plan.memory_rows()
    if memory:
        console.print(_table("Networks in memory, MiB", Plan.MEMORY_HEADER, memory, texts=1))
    console.print(as_text(plan.summary()))


def _table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int
) -> Table:
    table = Table(title=as_text(title), title_justify="left")
    for index, column in enumerate(header):
        table.add_column(column, justify="left" if index < texts else "right")
    for row in rows:
        add_row(table, *row)
    return table
