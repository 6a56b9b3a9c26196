"""The plan of a run in the terminal."""

from rich.console import Console
from rich.table import Table

from flows.cli.terminal import add_row, as_text
from flows.parameters import PipelineParameters
from flows.pipeline import run_stages
from flows.plan import Plan, make_plan


def plan_pipeline(parameters: PipelineParameters) -> Plan:
    """Foretell the pipeline's stages."""
    return make_plan(parameters, lambda pipeline: run_stages(parameters, pipeline, ask=False))


def print_plan(plan: Plan) -> None:
    """Print a plan's table."""
    table = Table(title=as_text("Plan"), title_justify="left")
    for column in Plan.HEADER:
        table.add_column(column)
    for row in plan.rows():
        add_row(table, *row)
    console = Console(highlight=False)
    console.print(table)
    console.print(as_text(plan.summary()))
