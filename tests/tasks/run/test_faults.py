"""Errors of disk, databases and servers come out as one sentence with the remedy."""

import errno
import os
import sqlite3
from pathlib import Path

import httpx
import pytest
import sqlalchemy.exc

from models.errors import DataError, QuartetError, StoreError
from tasks.run.faults import explain_fault, faults_explained
from tasks.settings import Settings


def failed(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1:4200/api/flow_runs/")
    return httpx.HTTPStatusError("x\ny", request=request, response=httpx.Response(status))


def refused(code: str) -> Exception:
    error = Exception("API request failed with error code 401 != 200. Response body: 'x\ny'")
    error.error_code = code  # type: ignore[attr-defined]
    return error


def wrapped(inner: Exception) -> Exception:
    """As SQLAlchemy and MLflow do: one error raised from another."""
    try:
        try:
            raise inner
        except Exception as error:
            raise sqlalchemy.exc.OperationalError("insert", {}, error) from error
    except sqlalchemy.exc.OperationalError as error:
        return error


@pytest.mark.parametrize(
    ("number", "name", "wanted"),
    [
        (errno.ENOSPC, "", ("no space left on the disk", "free some space and run again")),
        (errno.EDQUOT, "store/x", ("no space left on the disk", "MiB were free")),
        (errno.EROFS, "store", ("cannot be read or written", "QUARTET_HOME")),
        (errno.EACCES, "mlflow.db", ("mlflow.db cannot be read or written", "right")),
        (errno.EIO, "", ("disk of", "fails", "check the disk")),
        (errno.EISDIR, "slots", ("is a folder", "move it away")),
        (errno.ENOTDIR, "file/x", ("wants another thing", "move it away")),
    ],
)
def test_faults_of_the_homes_disk_are_explained(
    tmp_path: Path, number: int, name: str, wanted: tuple[str, ...]
) -> None:
    (tmp_path / "slots").mkdir()
    settings = Settings(home=tmp_path)
    error = OSError(number, os.strerror(number), str(tmp_path / name) if name else None)
    explained = explain_fault(error, settings)
    assert isinstance(explained, StoreError)
    assert all(words in str(explained) for words in wanted)
    assert "\n" not in str(explained)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (wrapped(sqlite3.OperationalError("database or disk is full")), "no space left"),
        (wrapped(sqlite3.DatabaseError("file is not a database")), "mlflow.db is damaged"),
        (wrapped(sqlite3.OperationalError("database is locked")), "locked by another process"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
        (failed(401), "PREFECT_API_AUTH_STRING"),
        (failed(500), "the Prefect server at 127.0.0.1:4200 failed with 500"),
        (httpx.ConnectError("All connection attempts failed"), "does not answer"),
        (refused("UNAUTHENTICATED"), "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (refused("PERMISSION_DENIED"), "MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_faults_of_servers_and_databases_are_explained(
    tmp_path: Path, error: Exception, wanted: str
) -> None:
    explained = explain_fault(error, Settings(home=tmp_path))
    assert explained is not None
    assert wanted in str(explained)
    assert "\n" not in str(explained)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("step"),
        ValueError("a mistake of our own"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "nowhere"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere"),
        failed(404),
    ],
)
def test_what_is_not_known_stays_as_it_is(tmp_path: Path, error: Exception) -> None:
    settings = Settings(home=tmp_path)
    assert explain_fault(error, settings) is None
    with pytest.raises(type(error)) as raised, faults_explained(settings):
        raise error
    assert raised.value is error


def test_what_quartet_says_itself_is_passed_on(tmp_path: Path) -> None:
    error = DataError("row 3 has no prompt")
    with pytest.raises(QuartetError) as raised, faults_explained(Settings(home=tmp_path)):
        raise error from OSError(errno.ENOSPC, "No space left on device")
    assert raised.value is error
