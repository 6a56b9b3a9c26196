"""Arguments as people give them: what no path, name or text can be is refused before it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from models.errors import DataError, ParameterError
from tasks.data.files import user_path
from tasks.settings import Settings

NAME = typer.Option("--name", help="Name of the run; default: what differs from the preset.")
NOTE = typer.Option("--note", help="Shown with the run in MLflow and by `quartet status`.")

LONGEST_NAME = 1000
TEXTS = ("note", "system", "criteria", "settings", "delimiter")
"""Options that are no names and may be long."""


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command, with `~` in paths expanded.

    Raises:
        ParameterError: One is no UTF-8, holds null characters, is too long for a name, or names a
            path that there cannot be.
    """
    return {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_checked(name, one) for one in value]
    if not isinstance(value, str | Path):
        return value
    option = name.replace("_", "-")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if isinstance(value, str):
            raise ParameterError(f"{option} is no UTF-8 text; type it again") from error
    if "\0" in text:
        raise ParameterError(f"{option} holds a null character; type it again")
    if name not in TEXTS and len(text) > LONGEST_NAME:
        raise ParameterError(
            f"{option} has {len(text):,} characters, wanted a name or path of at most "
            f"{LONGEST_NAME:,}"
        )
    if not isinstance(value, Path):
        return value
    try:
        return user_path(value)
    except DataError as error:
        raise ParameterError(f"--{option}: {error}") from error


def want_home(settings: Settings) -> None:
    """Refuse a home folder that there cannot be, without making it.

    Raises:
        ParameterError: With the reason.
    """
    try:
        root = user_path(settings.home).absolute()
        there = next(path for path in (root, *root.parents) if path.exists())
    except (DataError, OSError) as error:
        raise ParameterError(f"environment variable QUARTET_HOME: {error}") from error
    if not there.is_dir():
        raise ParameterError(
            f"environment variable QUARTET_HOME: {there} is no folder, so {root} cannot be the "
            "home folder; name another"
        )


def want_file_to_write(option: str, path: Path | None, ending: str = "") -> None:
    """Refuse a path that no file can be written to, before the work for it is done.

    Raises:
        ParameterError: Its folder is missing, or it is no file or has another ending.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ParameterError(f"{option}: the folder {folder} does not exist; make it first")
    if path.is_dir():
        raise ParameterError(
            f"{option}: {path} is a folder, wanted a file to write; name one in it"
        )
    if path.exists() and not path.is_file():
        raise ParameterError(f"{option}: {path} is no regular file; name another")
    if path.suffix != ending and ending:
        raise ParameterError(f"{option}: got {path}, wanted a file whose name ends in {ending}")
