"""Where notifications arrive, and the event of an alarm."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from prefect.events import Event, RelatedResource, Resource

from tests.flows.operated import Operation


def send_alarm(operation: Operation, run_id: str) -> None:
    """As a stage of a flow run emits it."""
    related = {"prefect.resource.id": f"prefect.flow-run.{run_id}"}
    event = Event(
        event="quartet.alarm",
        resource=Resource({"prefect.resource.id": "quartet.stage.ppo"}),
        related=[RelatedResource(related | {"prefect.resource.role": "flow-run"})],
        payload={"alarms": {"kl_too_high": 3}},
    )
    signed = ("admin", operation.password)
    httpx.post(f"{operation.api}/events", json=[event.model_dump(mode="json")], auth=signed)


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that takes messages as Slack does, and those that it got."""
    messages: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", messages
    finally:
        server.shutdown()
        server.server_close()
