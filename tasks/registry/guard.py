"""What stands before a served model: who may ask, and how much a request may be.

A page of another origin that is open in a browser reaches every port of the machine, also under a
host name of its own (rebinding). So a request must name this host, come from no other page, bring
the key, and be JSON, which a page cannot send to another origin without asking first. Everything
is bounded before it is read: size, time, depth and the number of requests at once.
"""

import asyncio
import hmac
import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import h11

from models.errors import QuartetError
from tasks.machine.lookup import LOOPBACK
from tasks.registry.bodies import BODIES, BODY_BYTES, UPDATE, Refusal, checked_body

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

EVERY_ADDRESS = ("0.0.0.0", "::", "")

BODY_SECONDS = 30.0
SEND_SECONDS = 60.0
"""For a piece of an answer that nobody reads."""
REQUESTS_AT_ONCE = 8
"""One is answered at a time; the others wait."""

STREAMED_ERROR = b'data: {"error": "'
"""How the kept server ends a stream that fails; what a model says has its quotes escaped."""

OPEN = ("/health",)
"""What is answered without the key: that the server is there."""

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application that lets requests through to another one."""

    def __init__(
        self,
        app: App,
        *,
        key: str | None,
        host: str,
        context: int,
        name: str,
        updates: bool = False,
    ) -> None:
        """Guard an application.

        Args:
            key: What requests must bring, or None where everybody may ask.
            host: The address that is listened on.
            context: The model's, in tokens.
            name: The model's.
            updates: Whether its weights may be changed.
        """
        self._app = app
        self._paths = [path for path in BODIES if path != UPDATE or updates]
        self._key = None if key is None else f"Bearer {key}".encode()
        self._host = host.lower()
        self._context, self._name = context, name
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._serve(scope, receive, answer)
        except (ConnectionError, TimeoutError):
            logger.info("a client left before its answer was sent")

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            self._admit(scope)
            if scope["method"] != "POST":
                await self._app(scope, receive, answer.send)
                return
            body = await self._read(scope, receive)
            if self._busy >= REQUESTS_AT_ONCE:
                said = f"{self._busy} requests are being answered; try again later"
                raise Refusal(429, said, code="rate_limit_exceeded")
            self._busy += 1
            try:
                await self._app(scope, _once(body, receive), answer.send)
            finally:
                self._busy -= 1
        except Refusal as refusal:
            await answer.refuse(refusal)
        except (ConnectionError, TimeoutError):
            raise
        except QuartetError as error:
            await answer.refuse(Refusal(400, str(error)))
        except Exception as error:  # one line for each, and the server serves on
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place = where and f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}"
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            logger.error("a request failed: %s (%s)", said, place)
            said = "the model could not answer; the server's log says why"
            await answer.refuse(Refusal(500, said))

    def _admit(self, scope: Scope) -> None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = [one.decode("latin-1") for one in headers.get(b"host", [])]
        if len(hosts) != 1 or not self._is_own_name(hosts[0]):
            raise Refusal(403, "the Host header names another host than this one")
        origins = [one.decode("latin-1") for one in headers.get(b"origin", [])]
        foreign = [one for one in origins if one.partition("://")[2] != hosts[0]]
        if foreign or headers.get(b"sec-fetch-site", [b"none"])[0] not in (b"none", b"same-origin"):
            raise Refusal(403, "pages of another origin may not ask")
        if self._key is not None and scope["path"] not in OPEN:
            given = b"".join(headers.get(b"authorization", []))
            if not hmac.compare_digest(given.strip(), self._key):
                said = "the key is missing or wrong: send Authorization: Bearer KEY"
                raise Refusal(401, said, code="invalid_api_key")
        if scope["method"] == "POST":
            self._want_small_json(scope["path"], headers)

    def _is_own_name(self, header: str) -> bool:
        name = header.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in LOOPBACK or name == self._host:
            return True
        if self._host not in EVERY_ADDRESS:
            return False
        try:
            ipaddress.ip_address(name)  # rebinding needs a name
        except ValueError:
            return name in (socket.gethostname().lower(), socket.getfqdn().lower())
        return True

    def _want_small_json(self, path: str, headers: dict[bytes, list[bytes]]) -> None:
        if path not in self._paths:
            raise Refusal(404, f"only {' and '.join(self._paths)} take requests")
        kind = headers.get(b"content-type", [b""])[0].partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Refusal(415, "the Content-Type must be application/json")
        if headers.get(b"content-encoding"):
            raise Refusal(415, "a compressed body is not read")
        length = headers.get(b"content-length", [b"0"])[0]
        if not length.isdigit() or len(length) > 19 or int(length) > BODY_BYTES:
            raise Refusal(413, f"the body is larger than {BODY_BYTES} bytes")

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ConnectionResetError
                    body += message.get("body", b"")
                    if len(body) > BODY_BYTES:
                        raise Refusal(413, f"the body is larger than {BODY_BYTES} bytes")
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(408, f"the body took more than {BODY_SECONDS:g} s") from None
        return checked_body(scope["path"], bytes(body), context=self._context, name=self._name)


class _Answer:
    """What goes back: bounded in time, and never cached or guessed at by a browser."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            own = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
            message["headers"] = [*message.get("headers", ()), *own]
        else:
            message["body"] = _with_error_in_shape(message.get("body", b""))
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except h11.ProtocolError as error:  # the connection ended in nonsense meanwhile
            raise ConnectionAbortedError from error

    async def refuse(self, refusal: Refusal) -> None:
        if self._started:
            return
        status, body = refusal.status, json.dumps(refusal.content).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),  # what is left of the request is not read
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 429:
            headers.append((b"retry-after", b"1"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _with_error_in_shape(piece: bytes) -> bytes:
    """A piece of a stream whose end may be the kept server's word for an error."""
    before, found, said = piece.partition(STREAMED_ERROR)
    if not found:
        return piece
    text = said.decode(errors="replace").strip().removesuffix('"}')
    return before + f"data: {json.dumps(Refusal(400, text).content)}\n\n".encode()


def _once(body: bytes, receive: Receive) -> Receive:
    """A request whose body was read already; after it comes whatever happens to the connection."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
