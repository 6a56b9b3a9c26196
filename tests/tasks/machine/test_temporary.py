"""The Prefect server of one command asks for a password, logs to a file and fails in one line."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

STUB = """
import base64, http.server, os, sys
wanted = "Basic " + base64.b64encode(os.environ["PREFECT_SERVER_API_AUTH_STRING"].encode()).decode()
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        health = self.path.endswith("/health")  # anybody may ask for it
        self.send_response(200 if health or self.headers["Authorization"] == wanted else 401)
        self.end_headers()
        self.wfile.write(b"true" if health else b'"3.8"')
print("words of a server")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""

PROGRAM = """
import os, sys, urllib.error, urllib.request
from models.errors import QuartetError
from tasks.machine import temporary
from tasks.settings import load_settings
temporary.COMMAND = ("-c", sys.argv[1])
try:
    temporary.ensure_prefect(load_settings())
except QuartetError as error:
    sys.exit(f"quartet: {error}")
from prefect.settings import get_current_settings
api = get_current_settings().api
assert api.url == os.environ["PREFECT_API_URL"] == temporary.started[0]
assert api.auth_string.get_secret_value().startswith("admin:")
try:
    urllib.request.urlopen(api.url + "/admin/version")
except urllib.error.HTTPError as error:
    print(api.url, error.code)
"""


def ask(
    home: Path, stub: str, program: str = PROGRAM, **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-c", program, stub],
        env={**kept, "QUARTET_HOME": str(home), "PREFECT_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_temporary_server_asks_for_a_password_and_ends_with_its_command(tmp_path: Path) -> None:
    done = ask(tmp_path, STUB)
    assert done.returncode == 0, done.stderr
    address, status = done.stdout.split()
    assert status == "401"
    assert done.stderr == ""
    (log,) = tmp_path.glob("logs/prefect-of-*.log")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(address).port or 0))
    for number in range(20):
        older = tmp_path / "logs" / f"prefect-of-0-{number}.log"
        older.touch()
        os.utime(older, (number, number))
    ask(tmp_path, STUB)
    left = {path.name for path in tmp_path.glob("logs/prefect-of-*.log")}
    assert len(left) == 10
    assert {log.name, "prefect-of-0-19.log"} < left
    assert "prefect-of-0-11.log" not in left


@pytest.mark.parametrize(
    ("stub", "seconds", "wanted"),
    [
        ("import sys; sys.exit('sqlite3.DatabaseError: file is not a database')", 30, "is damaged"),
        ("import sys; sys.exit('Can\\'t locate revision identified by x')", 30, "newer version"),
        ("import sys; sys.exit('attempt to write a readonly database')", 30, "cannot be written"),
        ("import time; time.sleep(60)", 1, "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"),
    ],
)
def test_temporary_server_that_does_not_start_is_one_line(
    tmp_path: Path, stub: str, seconds: int, wanted: str
) -> None:
    limit = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(seconds)}
    done = ask(tmp_path, stub, **limit)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert wanted in line
    assert "its log is" in line


TAKEN = """
import http.server, pathlib, sys, threading, time
if not pathlib.Path("taken").exists():
    pathlib.Path("taken").touch()
    class Open(http.server.BaseHTTPRequestHandler):  # somebody's server that asks for nothing
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"true" if self.path.endswith("/health") else b'"3.8"')
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = http.server.HTTPServer(("127.0.0.1", port), Open)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(2)
    sys.exit(f"[Errno 98] error while attempting to bind on {port}: address already in use")
"""


def test_temporary_server_whose_port_was_taken_meanwhile_gets_another_one(tmp_path: Path) -> None:
    done = ask(tmp_path, TAKEN + STUB)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "taken").exists()
    assert done.stdout.split()[1] == "401"
    done = ask(tmp_path, "import sys; sys.exit('address already in use')")
    assert done.returncode == 1
    assert "did not start" in done.stderr


BEGIN = """
import sys
from tasks.machine import temporary
from tasks.settings import load_settings
temporary.COMMAND = ("-c", sys.argv[1])
settings = load_settings()
temporary.begin_prefect(settings)
temporary.begin_prefect(settings)
print(*(one.port for one in temporary._coming))
if not (settings.root / "refused").exists():
    temporary.ensure_prefect(settings)
    print(*temporary.started)
"""


@pytest.mark.parametrize("files", [[], ["prefect.db"], ["prefect.db", "refused"]])
def test_temporary_server_starts_early_where_its_database_is_there(
    tmp_path: Path, files: list[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    done = ask(tmp_path, STUB, program=BEGIN)
    assert done.returncode == 0, done.stderr
    ports, *used = done.stdout.splitlines()
    assert bool(ports) == ("prefect.db" in files)
    assert bool(used) == ("refused" not in files)
    (port,) = {urlsplit(one).port for one in used} | {int(one) for one in ports.split()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port or 0))


def test_configured_server_is_used(tmp_path: Path) -> None:
    ask(tmp_path, "raise SystemExit('started')", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert not list(tmp_path.glob("logs/*"))  # none was started
