"""An OpenAI-compatible server on loopback whose answers a test decides."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, str]], str]


class Server:
    """An OpenAI-compatible server whose answers a test decides."""

    def __init__(self) -> None:
        self.answer: Answer = lambda asked: "A" if len(asked["A"]) > len(asked["B"]) else "B"
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.body: str | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.in_flight = self.most_in_flight = 0
        self.gate: threading.Barrier | None = None
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply(self, request: dict[str, Any], key: str | None) -> tuple[int, str]:
        with self._lock:
            self.requests.append(request)
            self.keys.append(key)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            status = self.statuses.pop(0) if self.statuses else 200
        if self.gate is not None:
            self.gate.wait(10)
        with self._lock:
            self.in_flight -= 1
        if status != 200:
            return status, json.dumps({"error": f"no, and your key is {key}"})
        if self.body is not None:
            return 200, self.body
        said = self.answer(json.loads(request["messages"][1]["content"]))
        return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]})

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, text = server.reply(request, self.headers.get("Authorization"))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text)), **server.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler
