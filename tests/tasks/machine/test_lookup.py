"""Looking for servers: what holds a port, and whether our password opens it."""

import base64
import http.server
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.errors import QuartetError
from tasks.machine.lookup import (
    Kind,
    authorization,
    find_server,
    held_by_another_account,
    loopback_url,
)
from tasks.machine.servers import start_child, wait_for_server
from tests.ports import free_port


@pytest.fixture
def foreign_port() -> Iterator[int]:
    """A web server that is neither Prefect nor MLflow: it answers OK to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["Prefect", "MLflow"])
def test_find_server_refuses_a_foreign_service_and_names_port_answer_and_remedy(
    kind: str, foreign_port: int
) -> None:
    with pytest.raises(QuartetError) as caught:
        find_server(kind, loopback_url(kind, foreign_port))  # type: ignore[arg-type]
    for part in (str(foreign_port), "'OK'", kind, f"--{kind.lower()}-port"):
        assert part in str(caught.value)


def test_find_server_refuses_what_speaks_no_http() -> None:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()

        def answer() -> None:
            connection, _ = opened.accept()
            connection.sendall(b"SSH-2.0\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(QuartetError, match="no HTTP"):
            find_server("MLflow", loopback_url("MLflow", opened.getsockname()[1]))


def test_find_server_gives_none_where_the_port_is_free() -> None:
    assert find_server("Prefect", loopback_url("Prefect", free_port())) is None


@contextmanager
def closed_server(kind: Kind, wanted: str) -> Iterator[str]:
    """Address of a server that is healthy and asks for credentials."""
    sent: dict[Kind, tuple[bytes, bytes]] = {
        "Prefect": (b"true", b'"3.8.8"'),
        "MLflow": (b"OK", b"3.17.2"),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            healthy = self.path.endswith("/health")
            opened = self.headers.get("Authorization") == wanted
            self.send_response(200 if healthy or opened else 401)
            self.end_headers()
            self.wfile.write(sent[kind][0 if healthy else 1])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield loopback_url(kind, int(server.server_address[1]))
    server.shutdown()
    server.server_close()


OPENING: dict[Kind, dict[str, str]] = {
    "Prefect": {"PREFECT_API_AUTH_STRING": "admin:right"},
    "MLflow": {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "right"},
}


@pytest.mark.parametrize("kind", ["Prefect", "MLflow"])
def test_find_server_opens_with_the_credentials_of_the_environment(kind: Kind) -> None:
    right = "Basic " + base64.b64encode(b"admin:right").decode()
    with closed_server(kind, right) as url:
        found = find_server(kind, url, OPENING[kind])
        assert found is not None
        assert found.closed
        assert not found.url.endswith("/api")
        wrong = dict.fromkeys(OPENING[kind], "admin:wrong")
        for given, words in (({}, "asks for a password; set"), (wrong, "does not accept")):
            with pytest.raises(QuartetError, match=words) as caught:
                find_server(kind, url, given)
            assert list(OPENING[kind])[-1] in str(caught.value)
            assert "admin:wrong" not in str(caught.value)


CLOSED = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        healthy = self.path == "/health"
        self.send_response(200 if healthy else 401)
        self.end_headers()
        self.wfile.write(b"OK" if healthy else b"")

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""An MLflow server, as far as is asked, whose accounts have another password."""


def test_wait_for_server_says_what_to_remove_where_mlflow_knows_another_password(
    tmp_path: Path,
) -> None:
    port = free_port()
    child = start_child(
        "MLflow server",
        [sys.executable, "-c", CLOSED, str(port)],
        log=tmp_path / "logs" / "mlflow-server.log",
        environment=os.environ,
    )
    try:
        with pytest.raises(QuartetError, match=f"remove {tmp_path / 'mlflow-auth.db'}"):
            wait_for_server("MLflow", port, child, OPENING["MLflow"], say=print)
    finally:
        child.stop(lambda: True)


def test_find_server_refuses_a_password_in_an_address_and_does_not_show_it() -> None:
    with pytest.raises(QuartetError, match="PREFECT_API_AUTH_STRING") as caught:
        find_server("Prefect", "http://admin:secret@127.0.0.1:4200/api")
    assert "secret" not in str(caught.value)


def test_authorization_reads_mlflows_own_file_of_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert authorization("MLflow", {}) == {}
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = 100%\n"
    )
    basic = "Basic " + base64.b64encode(b"me:100%").decode()
    assert authorization("MLflow", {}) == {"Authorization": basic}
    (tmp_path / ".mlflow" / "credentials").write_bytes(b"\xff\x00")
    assert authorization("MLflow", {}) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_held_by_another_account_knows_whose_a_port_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        assert not held_by_another_account(opened.getsockname()[1])
    os.seteuid(65534)
    try:
        opened = socket.create_server(("127.0.0.1", 0))
    finally:
        os.seteuid(0)
    with opened:
        assert held_by_another_account(opened.getsockname()[1])
    assert not held_by_another_account(free_port())
