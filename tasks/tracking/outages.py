"""Outages of MLflow: whether it answers, and notes of what it has missed.

A note is one small file in the home folder. The end of a pipeline delivers those of its own stages
if the server is back by then; `quartet sync` delivers all of them.
"""

import contextlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from models.errors import QuartetError, first_line
from tasks.machine.logs import explain_database
from tasks.machine.lookup import trusted
from tasks.results.store import write_whole
from tasks.settings import Settings

logger = logging.getLogger(__name__)

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED", "SCHEDULED"]

REMEDY = "when the server is back, `quartet sync` records it"


class OutageNote(BaseModel, frozen=True):
    """What MLflow has missed of one run.

    Attributes:
        run_id: Empty if the run could not be opened.
        stage: Of a published result; empty where only the run's end is missing.
    """

    name: str
    run_id: str = Field(pattern=r"^[\w-]{0,64}$")
    status: Status
    stage: str = Field(default="", pattern=r"^[\w-]{0,64}$")
    digest: str = Field(default="", pattern=r"^[\w-]{0,64}$")
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the note's file: the result's, or the run's whose end is missing."""
        return f"{self.stage}-{self.digest}" if self.stage else self.run_id


def write_note(root: Path, note: OutageNote) -> None:
    """Leave a note, in the place of an older one of the same result or run."""
    write_whole(_path(root, note.key), note.model_dump_json(indent=2))


def read_notes(root: Path) -> list[OutageNote]:
    """Return every note: results first, in the order they were made, then ends of runs.

    One that cannot be read counts as none, with a warning.
    """
    paths = sorted(_path(root, "x").parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
    notes = []
    for path in paths:
        try:
            notes.append(OutageNote.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            said = first_line(error)
            logger.warning("left out the note %s, which cannot be read: %s", path, said)
    return sorted(notes, key=lambda note: not note.stage)


def drop_note(root: Path, key: str) -> None:
    """Take a note away, for it was delivered or the run was resumed."""
    if key:
        _path(root, key).unlink(missing_ok=True)


def _path(root: Path, key: str) -> Path:
    return root / "unrecorded" / f"{key}.json"


REFUSALS = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
"""MLflow's error codes for HTTP's 401 and 403."""

CREDENTIALS = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account of that server that "
    "may write"
)
ADDRESS = "the server does not know this address: name it in its MLFLOW_SERVER_ALLOWED_HOSTS"


def explain_refusal(error: BaseException, uri: str) -> QuartetError | None:
    """Say what a server that refuses us wants; None for any other error."""
    if (remedy := _remedy(error)) is None:
        return None
    what = "this address" if remedy == ADDRESS else "this account"
    return QuartetError(f"MLflow at {uri} refuses {what} ({first_line(error)}); {remedy}")


def _remedy(error: BaseException) -> str | None:
    code = getattr(error, "error_code", "")
    status = error.code if isinstance(error, urllib.error.HTTPError) else 0
    if code not in REFUSALS and status not in (401, 403):
        return None
    return ADDRESS if "Invalid Host header" in str(error) else CREDENTIALS


def explain_unopened(error: Exception, settings: Settings) -> QuartetError:
    """Say why no runs can be recorded: the account, the database, or what MLflow says itself."""
    uri = settings.mlflow_uri
    if (refusal := explain_refusal(error, uri)) is not None:
        return refusal
    database = settings.root / "mlflow.db"
    if not settings.tracking_uri and (found := explain_database(str(error), database)):
        return QuartetError(f"{found} ({first_line(error)})")
    return QuartetError(
        f"MLflow at {uri} does not open experiment {settings.experiment!r} ({first_line(error)}); "
        "repair it, or choose another with QUARTET_TRACKING_URI"
    )


def describe(error: BaseException) -> str:
    """An error of MLflow in one line, with the remedy where it refuses the account."""
    remedy = _remedy(error)
    return f"{first_line(error)}; {remedy}" if remedy else first_line(error)


@contextlib.contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Turn a failure to record something into a warning: results do not depend on MLflow."""
    try:
        yield
    except QuartetError:
        raise
    except Exception as error:  # any failure of a remote service must leave results alone
        said = describe(error)
        logger.warning("MLflow failed at %s; the run continues without it: %s", what, said)


NO_ANSWER = (OSError, ValueError, http.client.HTTPException)

PROBE_SECONDS, START_SECONDS, PATIENCE_SECONDS = 2.0, 5.0, 15.0
"""How long a server may take to answer; the second before a pipeline starts, which needs it; the
third where nothing else is to be done."""


def answers(uri: str, *, patient: bool = False) -> bool:
    """Whether a server answers; one that hangs costs two seconds, or 15 if that is worth it."""
    try:
        _ask(uri, PATIENCE_SECONDS if patient else PROBE_SECONDS)
    except NO_ANSWER:
        return False
    return True


def check_health(uri: str) -> None:
    """Make sure that a server answers.

    Raises:
        QuartetError: It does not, or something else answers there.
    """
    try:
        _ask(uri, START_SECONDS)
    except NO_ANSWER as error:
        raise QuartetError(
            f"the MLflow server at {uri} does not answer ({error}); start it, or unset "
            "QUARTET_TRACKING_URI to record in a local database"
        ) from error


def _ask(uri: str, seconds: float) -> None:
    url = f"{uri.rstrip('/')}/health"
    context = trusted("MLflow", url, os.environ) or None
    urllib.request.urlopen(url, timeout=seconds, context=context).close()
