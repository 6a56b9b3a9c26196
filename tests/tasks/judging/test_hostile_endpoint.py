"""A judge's server that means harm: each reply ends in time and memory, with one sentence."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.parameters import load_preset
from models import transport
from models.errors import ParameterError, QuartetError
from models.evaluation.config import EndpointConfig
from models.evaluation.samples import Pair
from tasks.judging.endpoint import EndpointJudge
from tasks.judging.possible import refuse_silent_endpoint

KEY = "sk-nobody-may-see-this"
PAIRS = [Pair(prompt="p", first="a", second="b")]
Send = Callable[[bytes], None]


class HostileServer:
    """Answers every connection with the bytes that a test sends, and keeps what it was sent."""

    def __init__(self, act: Callable[[Send], None]) -> None:
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.received: list[bytes] = []
        self.closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.received.append(connection.recv(2**16))
                self._act(connection.sendall)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(2**16):  # closed before all is read, it would be reset
                    pass
            except OSError:
                return  # the other side has had enough

    def drip(self, send: Send, data: bytes) -> None:
        for byte in data:
            if self.closed.wait(0.02):
                return
            send(bytes([byte]))

    def close(self) -> None:
        self.closed.set()
        self._listener.close()


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def whole(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    return head(f"Content-Length: {len(body)}", *lines, status=status) + body


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def serve() -> Iterator[Callable[[Any], HostileServer]]:
    servers: list[HostileServer] = []

    def start(act: Any) -> HostileServer:
        servers.append(HostileServer(lambda send: act(servers[-1], send)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(url: str, tmp_path: Path, seconds: float = 0.5, **changes: Any) -> str:
    """What asking ends with; empty if there was an answer."""
    config = EndpointConfig(url=url, model="m", timeout_seconds=seconds, retries=1, **changes)
    began = time.monotonic()
    try:
        EndpointJudge(config, tmp_path / "answers", pause_seconds=0.001).compare(PAIRS)
    except QuartetError as error:
        message = str(error)
    else:
        message = ""
    assert time.monotonic() - began < 10
    assert message.isprintable()
    assert KEY not in message
    return message


ENDLESS = head("Transfer-Encoding: chunked")


def endless(server: HostileServer, send: Send) -> None:
    send(ENDLESS)
    while not server.closed.is_set():
        send(chunked(b" " * 2**18))


def bomb(server: HostileServer, send: Send) -> None:
    """Zeros, packed a thousand to one, without end."""
    send(head("Transfer-Encoding: chunked", "Content-Encoding: gzip"))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    while not server.closed.is_set():
        if data := packer.compress(b"\0" * 2**20):
            send(chunked(data))


ANSWER = json.dumps({"choices": [{"message": {"content": "A"}}]}).encode()
DEEP = b"[" * 100_000 + b"]" * 100_000
REPLIES: dict[str, tuple[Callable[[HostileServer, Send], None], str]] = {
    "a byte of the body at a time": (
        lambda server, send: (send(head("Content-Length: 9999")), server.drip(send, b" " * 9999)),
        "did not answer in 2 attempts (TimeoutError: no whole reply within 0.5 seconds)",
    ),
    "a byte of the head at a time": (
        lambda server, send: server.drip(send, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9999),
        "no whole reply within 0.5 seconds",
    ),
    "nothing at all": (lambda server, send: server.closed.wait(20), "no whole reply within 0.5"),
    "without end": (endless, "more than 8 MiB"),
    "a bomb": (bomb, "more than 8 MiB"),
    "a whole bomb": (
        lambda server, send: send(
            whole(gzip.compress(b"\0" * 2**24), "Content-Encoding: gzip")
        ),
        "more than 8 MiB",
    ),
    "no gzip": (lambda server, send: send(whole(ANSWER, "Content-Encoding: gzip")), "packed wrong"),
    "packed unasked": (
        lambda server, send: send(whole(b"x", "Content-Encoding: br, \x1b[2J")),
        "",
    ),
    "packed": (
        lambda server, send: send(whole(gzip.compress(ANSWER), "Content-Encoding: gzip")), ""
    ),
    "deep": (lambda server, send: send(whole(DEEP)), "no answer that can be read"),
    "deep content": (
        lambda server, send: send(
            whole(json.dumps({"choices": [{"message": {"content": '{"a":' * 99_999}}]}).encode())
        ),
        "no answer that can be read",
    ),
    "a huge number": (lambda server, send: send(whole(b"9" * 9999)), "no answer that can be read"),
    "no UTF-8": (lambda server, send: send(whole(b"\xff\xfe")), "no answer that can be read"),
    "no HTTP": (lambda server, send: send(b"\x1b]0;title\x07\r\n\r\n"), "did not answer"),
    "huge headers": (lambda server, send: send(head("X: " + "x" * 2**20)), "did not answer"),
    "wrong chunks": (lambda server, send: send(ENDLESS + b"zz\r\n"), "did not answer"),
    "cut": (lambda server, send: send(head("Content-Length: 99") + b"x"), "did not answer"),
    "closed": (lambda server, send: None, "did not answer"),
    "wait for less than nothing": (
        lambda server, send: send(whole(b"", "Retry-After: -9", status="503 Busy")),
        "status 503",
    ),
    "the key, and orders to the terminal": (
        lambda server, send: send(
            whole(f"\x1b[2J\u202e{KEY}\r\n".encode() * 99, status="401 No")
        ),
        r"\x1b[2J\u202e[key]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLIES)
def test_hostile_replies_end_in_one_sentence(
    name: str, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    act, wanted = REPLIES[name]
    patience = 0.5 if "no whole reply" in wanted else 5.0  # a busy machine is slow to send much
    message = ask(serve(act).url, tmp_path, patience)
    assert wanted in message
    assert bool(message) == (name != "packed")


def test_a_bomb_is_never_unpacked_whole() -> None:
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    data = gzip.compress(b"\0" * 2**26)
    assert len(transport._unpacked(unpack, data, 1000)) == 1000


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Moved"])
def test_a_redirect_does_not_carry_the_key_elsewhere(
    status: str, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    other = serve(lambda server, send: send(whole(ANSWER)))
    away = whole(b"", f"Location: {other.url}/chat/completions", status=status)
    server = serve(lambda server, send: send(away))
    assert "redirects are not followed" in ask(server.url, tmp_path)
    assert KEY.encode() in server.received[0]
    assert not other.received


@pytest.mark.parametrize("key", ["a\nb", "a b", "schlüssel", "a\x1b[2Jb", "a\r\nX-Evil: 1"])
def test_a_key_that_is_none_is_refused_unseen(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1", model="m")
    for begin in (
        lambda: EndpointJudge(endpoint, tmp_path / "answers"),
        lambda: refuse_silent_endpoint(endpoint, "evaluate.endpoint"),
    ):
        with pytest.raises(ParameterError, match="OPENAI_API_KEY holds no API key") as raised:
            begin()
        assert key not in str(raised.value)


def test_a_line_end_behind_the_key_is_left_out(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    server = serve(lambda server, send: send(whole(ANSWER)))
    assert not ask(server.url, tmp_path)
    assert f"Bearer {KEY}\r\n".encode() in server.received[0]


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@x/v1",
        f"https://{KEY}@x/v1",
        f"http://x/v1?api_key={KEY}",
        f"http://x/v1?token={KEY}",
        f"http://x/v1#{KEY}",
        f"http://x/v1?{KEY}",
        f"http://user%40:{KEY}@x/v1",
        f"ftp://x/{KEY}",
        f"http:///{KEY}",
        f"http://[{KEY}",
        f"http://x:99999/{KEY}",
        f"http://x:{KEY}/v1",
        f"http://x/\x1b]0;{KEY}",
        f"http://x/v1\n{KEY}",
        f"file:///{KEY}",
        f"//x/{KEY}",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ParameterError, match="OPENAI_API_KEY") as raised:
        load_preset("quickstart", [f"evaluate.endpoint.url={url}"])
    chain: BaseException | None = raised.value
    while chain is not None:
        assert KEY not in str(chain)
        chain = chain.__cause__ or chain.__context__


def test_plain_addresses_are_taken() -> None:
    for url in ("http://127.0.0.1:8000/v1", "https://api.x.com/v1/", "http://[::1]:8000/v1"):
        assert EndpointConfig(url=url).url == url.rstrip("/")
