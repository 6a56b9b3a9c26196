"""The local database that stands in for an MLflow server: whole, or not there."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from tasks.machine.signals import signals_held


def create_database(path: Path, migrate: Callable[[Path], None]) -> None:
    """Make the database in one step, for a kill in mid-migration would leave half of its tables.

    Args:
        migrate: Makes the tables in a new file.
    """
    if path.exists():
        path.open("rb").close()  # one that cannot be opened is said at once; MLflow tries 2 minutes
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        draft = path.with_name(f".{path.name}.new")
        for left in path.parent.glob(f"{draft.name}*"):  # with its journal
            left.unlink()
        if not path.exists():
            migrate(draft)
            draft.rename(path)


class Undisturbed:
    """A client of a local database whose calls no signal cuts in two.

    What a handler raises within SQLAlchemy can leave a transaction open, and with it the whole file
    locked: each later call of this process, such as the one that notes its end, would wait in vain.
    Calls that copy files may be long and are not held.
    """

    def __init__(self, client: Any) -> None:
        """Hold the signals of all calls of a client."""
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or "artifact" in name:
            return found

        @functools.wraps(found)
        def call(*given: Any, **named: Any) -> Any:
            with signals_held():
                return found(*given, **named)

        return call
