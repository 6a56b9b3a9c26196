"""Where hosts meet whose processes learn together: one address, at the first of them, by HTTP.

The first host offers what is to be learned. Others come, get ready (`GET /` gives them its
checkpoints), are told to start, and give signs of life until they are told to leave. Like torch's
own rendezvous it asks for no password and runs what it is told: the network must be trusted.
"""

import contextlib
import json
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.machine.network import explained, parted

SIGN_SECONDS = 1.0
SILENT_SECONDS = 15.0
"""After them a host that gives no sign of life counts as lost, and it gives up itself."""
LEAVE_SECONDS = 30.0
"""For hosts to leave and to tell what happened there."""
REQUEST_SECONDS = 5.0
TRANSFER_SECONDS = 60.0
"""Longest silence while checkpoints are fetched."""


@dataclass(slots=True)
class Guest:
    """A host that came, as the first one sees it.

    Attributes:
        state: ready, or what else it said last: here, left.
        told: What it said when it left.
    """

    host: str
    node: int
    state: str = "here"
    seen: float = field(default_factory=time.monotonic)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        """Whether it gives no sign of life."""
        return self.state != "left" and time.monotonic() - self.seen > SILENT_SECONDS

    @property
    def gone(self) -> bool:
        """Whether it left so long ago that the others cannot be about to leave too."""
        return self.state == "left" and time.monotonic() - self.seen > LEAVE_SECONDS


class Rendezvous:
    """The first host's side: open within the `with` block."""

    def __init__(
        self, address: str, *, nodes: int, offer: Mapping[str, Any], checkpoints: Path
    ) -> None:
        """Prepare to meet.

        Args:
            address: `HOST:PORT` of this host.
            nodes: Hosts that learn together, this one included.
            offer: What the others need to know.
            checkpoints: Folder that they get a copy of.
        """
        self.address = address
        self._nodes, self._offer, self._checkpoints = nodes, offer, checkpoints
        self._order = "wait"
        self._guests: dict[str, Guest] = {}
        self._changing = threading.Lock()

    def __enter__(self) -> "Rendezvous":
        with explained(self.address):
            self._server = _Server(parted(self.address), _Handler)
        self._server.rendezvous = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def guests(self) -> list[Guest]:
        """Who has come, in the order of their nodes; before the start, whoever is lost is out."""
        with self._changing:
            if self._order == "wait":
                self._guests = {k: one for k, one in self._guests.items() if not one.silent}
            return sorted(self._guests.values(), key=lambda one: one.node)

    @property
    def complete(self) -> bool:
        """Whether all have come and are ready."""
        return sum(one.state == "ready" for one in self.guests) == self._nodes - 1

    def start(self) -> None:
        """Tell all to start."""
        self._order = "start"

    def end(self, *, done: bool) -> list[Guest]:
        """Tell all to leave, and wait for what they tell; of one that is lost there is nothing.

        Args:
            done: Whether it is learned, so that nobody needs checkpoints any more.
        """
        self._order = "done" if done else "leave"
        end = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < end:
            if all(one.state == "left" or one.silent for one in self.guests):
                break
            time.sleep(0.1)
        return self.guests

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What a host that says something is told."""
        with self._changing:
            guest = self._guests.get(message["guest"])
            if guest is None:
                taken = {one.node for one in self._guests.values()}
                free = [node for node in range(1, self._nodes) if node not in taken]
                if message["state"] != "new" or self._order != "wait":
                    return {"order": "leave"}
                if not free:
                    return {"order": "wait"}
                self._guests[message["guest"]] = Guest(host=message["host"], node=free[0])
                return {"order": "prepare", "node": free[0], "offer": dict(self._offer)}
            guest.seen = time.monotonic()
            guest.state = message["state"]
            guest.told = message["told"]
            return {"order": self._order}

    def pack(self, file: Any) -> None:
        """Write the checkpoints as a tar archive."""
        with tarfile.open(fileobj=file, mode="w|") as archive:
            archive.add(self._checkpoints, arcname=".")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    rendezvous: Rendezvous


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(self.server.rendezvous.answer(message)).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        self.server.rendezvous.pack(self.wfile)

    def log_message(self, *_: object) -> None:
        """Say nothing: hosts speak each second."""


class Visit:
    """Another host's side: one meeting, from coming to leaving."""

    def __init__(self, address: str, host: str) -> None:
        self.address = address
        self.node = 0
        self.order = "wait"
        self._host, self._name = host, uuid4().hex
        self._state = "new"
        self._heard = time.monotonic()

    def come(self) -> dict[str, Any] | None:
        """Ask what is offered; None if nothing is, or nobody is there."""
        reply = self._say("new")
        if reply is None or reply["order"] != "prepare":
            return None
        self.node = reply["node"]
        offer: dict[str, Any] = reply["offer"]
        return offer

    @property
    def over(self) -> bool:
        """Whether to leave: it was told, or the first host is lost."""
        told = self.order in ("leave", "done")
        return told or time.monotonic() - self._heard > SILENT_SECONDS

    def ready(self) -> None:
        """Say that all is prepared."""
        self._state = "ready"

    def leave(self, told: Mapping[str, Any]) -> None:
        """Say goodbye, and what happened."""
        self._say("left", told)

    @contextlib.contextmanager
    def signs(self) -> Iterator[None]:
        """Give signs of life during the block."""
        done = threading.Event()
        self._state, self._heard = "here", time.monotonic()

        def give() -> None:
            while not done.wait(SIGN_SECONDS):
                reply = self._say(self._state)
                if reply is not None:
                    self.order = reply["order"]

        thread = threading.Thread(target=give, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def fetch_checkpoints(self, folder: Path) -> None:
        """Take the first host's checkpoints over into a folder, and remove all others there.

        Raises:
            OSError: The first host does not answer any more.
        """
        connection = HTTPConnection(*parted(self.address), timeout=TRANSFER_SECONDS)
        try:
            with contextlib.closing(connection):
                connection.request("GET", "/")
                with tarfile.open(fileobj=connection.getresponse(), mode="r|") as archive:
                    archive.extractall(folder, filter="data")
                    known = {Path(name).parts[0] for name in archive.getnames() if name != "."}
        except (HTTPException, tarfile.TarError) as error:
            raise ConnectionError(
                f"the checkpoints from {self.address} broke off ({error}); the next attempt "
                "fetches them again"
            ) from error
        for path in folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _say(self, state: str, told: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        message = {"guest": self._name, "host": self._host, "state": state, "told": told or {}}
        connection = HTTPConnection(*parted(self.address), timeout=REQUEST_SECONDS)
        try:
            with contextlib.closing(connection):
                connection.request("POST", "/", json.dumps(message))
                reply: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, HTTPException, ValueError):
            return None
        self._heard = time.monotonic()
        return reply
