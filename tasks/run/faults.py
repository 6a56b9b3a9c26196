"""The border where errors of others become ours: disk, databases and servers under a run.

Whatever a library says when the home folder cannot be written, a database is damaged or a server
fails, a person reads one sentence with the remedy. What is not recognised is passed on as it is:
a mistake in the code keeps its traceback.
"""

import contextlib
import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from models.errors import QuartetError, StoreError, first_line
from tasks.machine.logs import explain_database
from tasks.settings import Settings
from tasks.tracking.outages import explain_refusal

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = re.compile(r"No space left|disk is full|Disk quota exceeded")
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTEMPTY)
NEARLY_FULL_BYTES = 16 * 2**20
SAFE = "finished stages are kept, and an unfinished one resumes from its last checkpoint"


@contextlib.contextmanager
def faults_explained(settings: Settings) -> Iterator[None]:
    """Raise what is known of foreign errors as one sentence.

    Raises:
        QuartetError: The error of another library, explained.
    """
    try:
        yield
    except Exception as error:
        known = explain_fault(error, settings)
        if known is None or known is error:
            raise
        raise known from error


def explain_fault(error: BaseException, settings: Settings) -> QuartetError | None:
    """Say in our words what went wrong; None where it is not known.

    A QuartetError says it already and comes back as it is.
    """
    chain = list(_chain(error))
    if isinstance(error, QuartetError):
        return error
    for one in chain:
        if _is_full_disk(one):
            return full_disk(one, settings.root, free_bytes(settings.root))
        if isinstance(one, OSError) and (trouble := _disk_fault(one, settings)) is not None:
            return trouble
    for one in chain:
        if isinstance(one, sqlite3.Error):
            path = settings.root / "mlflow.db"
            return StoreError(f"{explain_database(str(one), path) or path} ({first_line(one)})")
    for one in chain:
        if (refusal := explain_refusal(one, settings.mlflow_uri)) is not None:
            return refusal
        if (known := _server_fault(one)) is not None:
            return known
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was made from: the nearest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _disk_fault(error: OSError, settings: Settings) -> StoreError | None:
    if error.errno == errno.EIO:
        return StoreError(
            f"the disk of {settings.root} fails ({error}); check the disk, or move the folder to "
            f"another one and name it with QUARTET_HOME: {SAFE}"
        )
    name = os.fspath(error.filename2 or error.filename or "")
    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else Path()
    if not path.is_relative_to(settings.root) and not settings.root.is_relative_to(path):
        return None
    if error.errno in CLOSED:
        return StoreError(
            f"{path} cannot be read or written ({error.strerror}); give this account the right to "
            "read and write the home folder, or choose another with QUARTET_HOME"
        )
    if error.errno in WRONG_KIND:
        kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "something else"
        return StoreError(
            f"{path} is {kind} where Quartet wants another thing ({error.strerror}); move it away "
            "and run again"
        )
    return None


def full_disk(error: BaseException, folder: Path, free: int) -> StoreError:
    """The sentence on a full disk.

    Args:
        free: Bytes that were free when it happened.
    """
    return StoreError(
        f"no space left on the disk of {folder}: {free / 2**20:.0f} MiB were free "
        f"({type(error).__name__}: {first_line(error)}); free some space and run again: {SAFE}"
    )


def by_full_disk(error: BaseException, free: int) -> bool:
    """Whether a full disk is behind an error that does not say so."""
    if not isinstance(error, Exception) or isinstance(error, QuartetError):
        return False
    return free < NEARLY_FULL_BYTES


def _is_full_disk(error: BaseException) -> bool:
    """Whether it says so, in the words of the system, of SQLite or of a library."""
    number = error.errno if isinstance(error, OSError) else None
    return number in FULL_DISK or bool(FULL_WORDS.search(str(error)))


def _server_fault(error: BaseException) -> QuartetError | None:
    """What Prefect's client raises when its server is away, fails, or refuses."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        status, address = error.response.status_code, error.request.url
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return QuartetError(
                f"the Prefect server at {address.host}:{address.port} refuses ({status}); set "
                "PREFECT_API_AUTH_STRING to the USER:PASSWORD that it was started with"
            )
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return QuartetError(
                f"the Prefect server at {address.host}:{address.port} failed with {status} at "
                f"{address.path}; its log says why (`quartet doctor` checks disk and database)"
            )
    if isinstance(error, httpx.TransportError):
        return QuartetError(
            f"the Prefect server does not answer ({type(error).__name__}: {first_line(error)}); "
            "start it again, or unset PREFECT_API_URL to have a temporary one"
        )
    return None


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, which need not exist yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free
