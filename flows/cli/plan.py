"""`quartet plan`: what a run will do, what it takes, and what to change where that does not fit."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.cli.foundations import FOUNDATIONS, plan_foundations
from flows.cli.prefect_runs import foretold, quick_imports
from flows.cli.terminal import add_row, as_text, refusals, say, wide_console
from flows.forms import RunForm
from flows.planning.costs import Known
from flows.planning.limits import memory_here
from flows.planning.memory import Scale
from flows.planning.needs import explain_rows, scale_of, stages_with_networks
from flows.planning.remedies import explain_fit, parse_memory
from flows.planning.tables import memory_table
from models.errors import ModelError, ParameterError, QuartetError
from tasks.settings import load_settings

if TYPE_CHECKING:
    from flows.planning.plan import Plan


def plan(
    preset: Annotated[str, typer.Argument(help="Name of a preset; see `quartet presets`.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value, such as ppo.kl_coef=0.1; repeatable."),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(help="Of a GPU that it shall fit, such as 80GB; default: what is here."),
    ] = "",
) -> None:
    """Foretell a run: its stages, memory by role and part, minutes, and what to change to fit."""
    if preset == FOUNDATIONS:
        with refusals():
            if memory:
                raise ParameterError(
                    f"--memory got {memory}, but the memory of {FOUNDATIONS} is not planned; "
                    "leave --memory out"
                )
            print_stages(plan_foundations(settings or []))
        return
    with refusals():
        form = RunForm.of(preset, settings or [])
        parameters = form.to_parameters()
        limit = parse_memory(memory) if memory else memory_here(load_settings())
    refused = ""
    try:
        made = foretold("flows.pipeline", "rlhf_pipeline", form)
        print_stages(made)
        known = made.known
    except QuartetError as error:
        with quick_imports():
            from flows.planning.rates import network_of
        values = parameters.model_dump(mode="json")
        known, refused = Known(parameters=values, network=network_of(parameters)), str(error)
    if known.network is None:
        raise ModelError(
            f"the sizes of base.source={parameters.base.name} are not known, so its memory is not "
            f"either; wanted a folder, a published stage or an id that the hub gives. {refused}"
        )
    if refused:
        say(f"Such a run would be refused, so its stages are left out: {refused}\n")
    scale = scale_of(load_settings())
    if memory and load_settings().device != "cpu":
        scale = replace(scale, gpu=True, half=True, side_by_side=False)
    print_memory(known, scale, limit)


def print_plan(made: "Plan") -> None:
    """Print a plan with what its stages hold here."""
    print_stages(made)
    if made.known.network is not None:
        settings = load_settings()
        print_memory(made.known, scale_of(settings), memory_here(settings))


def print_stages(made: "Plan") -> None:
    """Print what will be computed or reused, and what it comes to."""
    wide_console().print(_table("Plan", made.HEADER, made.rows()))
    say(f"{made.summary()}\n")
    for finding in made.findings:
        say(f"{finding}\n")


def print_memory(known: Known, scale: Scale, limit: int) -> None:
    """Print what every stage holds, and what to change where that is more than there is."""
    stages = stages_with_networks(known)
    shown = memory_table(known, scale, stages)
    wide_console().print(_table(shown.title, shown.header, shown.rows))
    say(f"{explain_rows(known)}\n")
    for line in explain_fit(known, scale, limit):
        say(line)


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=as_text(title), title_justify="left")
    for index, column in enumerate(header):
        table.add_column(column, justify="left" if index < 2 else "right", overflow="fold")
    for row in rows:
        add_row(table, *row)
    return table
