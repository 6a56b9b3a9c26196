"""Whether an MLflow server is there, asked before MLflow's own patience with it begins."""

import http.client
import urllib.request

from models.errors import QuartetError

NO_ANSWER = (OSError, ValueError, http.client.HTTPException)

PROBE_SECONDS = 2.0
"""How long a server may take to say that it is there."""

START_SECONDS = 5.0
"""The same before a pipeline starts, which fails without one."""


def answers(uri: str) -> bool:
    """Whether a server answers; one that is down or hangs costs two seconds at most."""
    try:
        _ask(uri, PROBE_SECONDS)
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
    with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=seconds):
        return
