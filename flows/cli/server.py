"""The Prefect server that a command's flow reports to, with its password."""

import contextlib
import os
import secrets
from collections.abc import Iterator

from models.errors import QuartetError
from tasks.machine.lookup import find_server
from tasks.machine.password import USER


@contextlib.contextmanager
def prefect_server() -> Iterator[None]:
    """Report to the server that is set, or to a temporary one that only this process can open.

    Raises:
        QuartetError: The server that is set does not answer, or not with these credentials.
    """
    from prefect.settings import (  # seconds to import
        PREFECT_API_AUTH_STRING,
        PREFECT_API_KEY,
        PREFECT_API_URL,
        PREFECT_SERVER_API_AUTH_STRING,
        temporary_settings,
    )

    if url := PREFECT_API_URL.value():
        known = {
            "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
            "PREFECT_API_KEY": PREFECT_API_KEY.value(),
        }
        given = {name: value for name, value in known.items() if value}
        if find_server("Prefect", url, {**os.environ, **given}) is None:
            raise QuartetError(
                f"there is no Prefect server at {url}; start it, or unset PREFECT_API_URL to use a "
                "temporary one"
            )
        yield
        return
    password = f"{USER}:{secrets.token_urlsafe(24)}"
    closed = {PREFECT_SERVER_API_AUTH_STRING: password, PREFECT_API_AUTH_STRING: password}
    with temporary_settings(closed):
        yield
