"""MLflow's server with passwords, closed to pages of every other origin: `--app-name quartet`.

MLflow's own basic-auth app answers pages of any port of localhost, and a browser sends them the
password that it remembers for MLflow, so a page that another account of the machine serves could
read and write everything. Here a page must come from the server itself.
"""

from typing import Any
from urllib.parse import urlsplit


def create_app() -> Any:
    """MLflow's basic-auth application behind the check of origins."""
    from mlflow.server.auth import create_app as create_closed_app

    app = create_closed_app()
    app.add_middleware(SameOrigin)  # the last one added is asked first
    return app


class SameOrigin:
    """Refuses requests of pages that came from elsewhere; programs send no origin.

    Args:
        app: The ASGI application behind it.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        if origin is None or urlsplit(origin).netloc == host:
            await self._app(scope, receive, send)
            return
        kind = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 403, "headers": kind})
        await send({"type": "http.response.body", "body": b"Requests of other origins are refused"})
