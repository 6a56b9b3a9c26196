"""Commands that look after what runs left behind: `quartet lineage` and `quartet gc`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import ParameterError
from tasks.settings import load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.registry.lineage import Record
    from tasks.upkeep.garbage import Garbage

MIB = 2**20


def lineage(
    model: Annotated[
        str,
        typer.Argument(help="models:/NAME@ALIAS, stage/digest or a digest's beginning."),
    ],
    picture: Annotated[Path | None, typer.Option(help="Draw it into this PNG file too.")] = None,
) -> None:
    """Show what a model was made from, with digests, runs and dates."""
    if picture is not None and not picture.absolute().parent.is_dir():
        raise ParameterError(
            f"--picture: the folder {picture.absolute().parent} does not exist; make it first"
        )
    if picture is not None and (picture.suffix != ".png" or picture.is_dir()):
        raise ParameterError(f"--picture: got {picture}, wanted a file whose name ends in .png")
    from tasks.registry.lineage import ancestry

    records = ancestry(load_settings(), model)
    _print_lineage(records)
    if picture is not None:
        from tasks.reports.lineage import draw_lineage

        draw_lineage(records, picture)
        typer.echo(f"drawn in {picture}")


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show; also where nobody can be asked.")
    ] = False,
    older_than_days: Annotated[
        float, typer.Option(help="Keep unfinished work that changed more recently.", min=0.0)
    ] = 7.0,
) -> None:
    """Remove stages and checkpoints that nothing refers to, after showing them."""
    if yes and dry_run:
        raise ParameterError("--yes and --dry-run exclude each other; give one of them")
    from tasks.upkeep.garbage import find_garbage, remove_garbage

    settings = load_settings()
    found = find_garbage(settings, older_than_days=older_than_days)
    _print_garbage(found)
    if not found.items:
        return
    total = sum(item.size for item in found.items)
    if dry_run:
        typer.echo("dry run: nothing was removed")
        return
    if not yes and not _can_ask():
        typer.echo("nobody can be asked here, so nothing was removed; give --yes to remove")
        return
    if not yes and not typer.confirm(f"Remove these, {_size(total)}?"):
        typer.echo("nothing was removed")
        return
    removed = remove_garbage(settings, found)
    gone = {item.path for item in removed}
    for item in found.items:
        if item.path not in gone:
            typer.echo(f"kept {item.path}: it came into use meanwhile, or could not be removed")
    typer.echo(f"removed {len(removed)}, {_size(sum(item.size for item in removed))} freed")


def _print_lineage(records: "list[Record]") -> None:
    from rich.table import Table

    from tasks.reports.lineage import date, numbers, short, sources, title

    known = {record.digest: record for record in records}
    table = Table(title="made from top to bottom", title_justify="left")
    for name in ("stage", "digest", "made from", "MLflow run", "made (UTC)", "metrics"):
        table.add_column(name, overflow="fold", no_wrap=name in ("stage", "digest"))
    for one in records:
        table.add_row(
            title(one),
            short(one.digest),
            "\n".join(sources(one, known)),
            one.run_id[:8],
            date(one),
            "\n".join(numbers(one)),
            style="bold" if one.asked else None if one.state == "published" else "dim",
            end_section=True,
        )
    _console().print(table)


def _print_garbage(found: "Garbage") -> None:
    from rich.table import Table

    for sentence in found.notices:
        typer.echo(sentence)
    if not found.items:
        typer.echo("nothing to remove: everything in the store is referred to, or too young")
        return
    table = Table()
    table.add_column("stage", no_wrap=True)
    table.add_column("digest", no_wrap=True)
    table.add_column("what")
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("why it can go", overflow="fold")
    for item in found.items:
        table.add_row(
            item.stage,
            item.digest[:12],
            item.what,
            f"{item.age_days:.1f} days",
            _size(item.size),
            item.why,
        )
    total = sum(item.size for item in found.items)
    table.add_section()
    table.add_row("total", f"{len(found.items)}", "", "", _size(total), "")
    _console().print(table)


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _console() -> "Console":
    """A terminal's own width; a hundred and forty columns where the output is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140)


def _size(count: int) -> str:
    return f"{count / MIB:.1f} MiB"
