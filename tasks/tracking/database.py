"""The local database that stands in for an MLflow server: whole, or not there."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


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
