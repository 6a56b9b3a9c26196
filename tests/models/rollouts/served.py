"""`quartet serve` as a process, and a go-between that can damage or refuse what it answers."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from models.rollouts.config import RolloutServer
from tests.ports import free_port

KEY = "a-key-for-the-tests"
PROGRAM = (
    "import typer\n"
    "from flows.cli.use import serve\n"
    "app = typer.Typer(pretty_exceptions_enable=False)\n"
    "app.command()(serve)\n"
    "app()\n"
)
WORDS = ("<pad>", "<eos>", "a", "b", "c", "d", "e", "f")
"""The whole vocabulary."""

Answer = tuple[int, dict[str, Any]]


def tiny_tokenizer() -> Any:
    """Eight words: pad 0, EOS 1."""
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="f"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server that takes updates."""

    url: str
    folder: Path
    key_file: Path

    def record(self, **changes: Any) -> RolloutServer:
        """How an engine is told of it."""
        given = {"url": self.url, "folder": self.folder, "key_file": self.key_file, "requests": 4}
        return RolloutServer(**given | changes)


@contextlib.contextmanager
def served(model: Path, scratch: Path) -> Iterator[Served]:
    """The command, from the moment it says that it serves."""
    folder = scratch / "weights"
    folder.mkdir()
    key_file = scratch / "key"
    key_file.write_text(KEY, encoding="ascii")
    port = free_port()
    home = {"QUARTET_HOME": str(scratch / "home"), "QUARTET_SERVE_KEY": KEY}
    options = ["--port", str(port), "--allow-updates", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(model), *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | home | {"QUARTET_DEVICE": "cpu", "QUARTET_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        assert "is served at" in process.stdout.readline()
        yield Served(url=f"http://127.0.0.1:{port}", folder=folder, key_file=key_file)
    finally:
        process.kill()
        process.communicate(timeout=60)


class GoBetween:
    """Passes requests on to a server; `meddle` may change what comes back, or come before it."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.meddle: Callable[[str, Answer], Answer] = lambda path, answer: answer
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._client = httpx.Client(timeout=None)
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def record(self) -> RolloutServer:
        """How an engine is told of it."""
        return self.server.record(url=f"http://127.0.0.1:{self._http.server_address[1]}")

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._client.close()

    def _answer(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        reply = self._client.post(self.server.url + path, content=body, headers=headers)
        with self._lock:
            self.asked.append((path, json.loads(body)))
            return self.meddle(path, (reply.status_code, reply.json()))

    def _handler(go_between) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                names = ("Authorization", "Content-Type")
                headers = {name: self.headers[name] for name in names if name in self.headers}
                status, answer = go_between._answer(self.path, body, headers)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
