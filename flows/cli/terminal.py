"""The only way from a command to the terminal: foreign text is shown there and never obeyed."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.errors import QuartetError
from tasks.escaping import for_terminal


def say(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print a text as it is, without what a terminal would take for an order."""
    typer.echo(for_terminal(str(text)) + end, nl=False, err=err)


def refuse(message: str) -> NoReturn:
    """Say what cannot be done, and exit with status 2."""
    say(f"quartet: {message}", err=True)
    raise typer.Exit(2)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Print what is refused before anything starts in one line, and exit with status 2."""
    try:
        yield
    except QuartetError as error:
        message = str(error)
    else:
        return
    refuse(message)  # outside, so that the exit has no cause that could be explained once more


def as_text(text: object, style: str = "") -> Text:
    """A text for a table of rich, which would read [red] and [link=…] in a plain one."""
    return Text(for_terminal(str(text)), style=style)


def add_row(table: Table, *cells: object, style: str | None = None, end: bool = False) -> None:
    """Add a row of foreign texts to a table."""
    table.add_row(*map(as_text, cells), style=style, end_section=end)


def wide_console() -> Console:
    """As wide as the terminal; 140 columns if the output is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=140)


def be_robust() -> None:
    """Print also what the terminal's encoding lacks, escaped, and log lines as all else.

    Prefect's console has a handler of its own for that (`tasks.run.logs`).
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_terminal(super().format(record))
