"""Servers and children: what holds a port, what a log means, and that no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.errors import QuartetError
from tasks.machine import lookup, servers
from tasks.machine.guardian import descendants
from tasks.machine.launch import server_command, server_environment, worker_environment
from tasks.machine.logs import explain, tail
from tasks.machine.lookup import Kind, RunningServer
from tasks.machine.servers import Child, start_child, wait_for_server
from tasks.settings import Settings
from tests.ports import free_port


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(what: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


def test_worker_environment_fixes_addresses_and_leaves_the_rest_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "7")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://user:secret@host/mlflow")
    found = worker_environment(
        Settings(home=tmp_path),
        prefect_api="http://127.0.0.1:4444/api",
        mlflow_uri="http://m",
        password="p",
        ours=set(),
    )
    assert found["PREFECT_API_URL"] == "http://127.0.0.1:4444/api"
    assert found["QUARTET_TRACKING_URI"] == "http://m"
    assert found["QUARTET_HOME"] == str(tmp_path)
    assert found["PREFECT_WORKER_QUERY_SECONDS"] == "7"
    assert "secret" not in str(found)
    assert "PREFECT_API_AUTH_STRING" not in found  # for servers that somebody else started


def test_server_environment_takes_postgresql_from_the_environment_and_a_file_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path)
    url = "postgresql+asyncpg://user:secret@host/prefect"
    name = "PREFECT_API_DATABASE_CONNECTION_URL"
    assert server_environment("Prefect", settings, 4200, None)[name].endswith("/prefect.db")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", url)
    closed = server_environment("Prefect", settings, 4200, "long-password")
    assert closed[name] == url
    assert closed["PREFECT_SERVER_API_AUTH_STRING"] == "admin:long-password"
    assert closed["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:4200/api"
    name = "MLFLOW_BACKEND_STORE_URI"
    assert server_environment("MLflow", settings, 5000, None)[name].endswith("/mlflow.db")
    monkeypatch.setenv(name, "postgresql://user:secret@host/mlflow")
    closed = server_environment("MLflow", settings, 5000, "long-password")
    assert closed[name] == "postgresql://user:secret@host/mlflow"
    assert "long-password" not in (tmp_path / "mlflow-auth.ini").read_text()
    for kind in ("Prefect", "MLflow"):
        assert "password" not in " ".join(server_command(kind, 1, closed=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("alembic.util.exc.CommandError: Can't locate revision identified by 'ff'", "newer"),
        ("Detected out-of-date database schema (found version 1)", "mlflow db upgrade sqlite:///"),
        ("sqlite3.OperationalError: duplicate column name: x", "half upgraded"),
        ("sqlite3.DatabaseError: file is not a database", "damaged"),
        ("KeyError: 'x'", "fix what it says"),
    ],
)
def test_explain_says_what_is_wrong_with_the_database(
    tmp_path: Path, words: str, meaning: str
) -> None:
    log = tmp_path / "logs" / "mlflow-server.log"
    log.parent.mkdir()
    log.write_text(f"begin\n{words}\n")
    text = explain("MLflow server", "ended with status 1", log)
    assert meaning in text
    assert words in text
    assert str(log) in text
    assert ("mlflow.db" in text) is (words[:3] != "Key")


def test_tail_leaves_out_passwords(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("cannot open postgresql://me:secret@host:5432/mlflow\n")
    assert tail(log) == "    cannot open postgresql://me:***@host:5432/mlflow"


def test_tail_gives_the_last_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(map(str, range(100))))
    assert tail(log, 2) == "    98\n    99"
    assert tail(tmp_path / "none.log") == "    (no log)"


# --- children -----------------------------------------------------------------------------------

FAMILY = """
import signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
print("ready", flush=True)
time.sleep(300)
"""
"""A parent that forgets its child, which lives in a session of its own and hears no SIGTERM."""


def family(tmp_path: Path, grace_seconds: float = 1.0) -> Child:
    child = start_child(
        "family",
        [sys.executable, "-c", FAMILY],
        log=tmp_path / "logs" / "family.log",
        environment=os.environ,
        grace_seconds=grace_seconds,
    )
    assert wait_until(lambda: "ready" in child.log.read_text())
    assert wait_until(lambda: len(descendants(child.process.pid)) == 2)
    return child


def test_stop_leaves_no_process_not_even_in_a_session_of_its_own(tmp_path: Path) -> None:
    child = family(tmp_path)
    below = descendants(child.process.pid)
    child.stop()
    assert child.ended() is not None
    assert not [pid for pid in below if alive(pid)]


def test_stop_cuts_the_grace_short_when_interrupted(tmp_path: Path) -> None:
    child = family(tmp_path, grace_seconds=600.0)
    below = descendants(child.process.pid)
    child.stop(lambda: True)  # without the second signal this would take ten minutes
    assert not [pid for pid in below if alive(pid)]


def test_children_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time, os, pathlib\n"
        "from tasks.machine.servers import start_child\n"
        f"FAMILY = {FAMILY!r}\n"
        "child = start_child('family', [sys.executable, '-c', FAMILY],\n"
        "    log=pathlib.Path(sys.argv[1]) / 'family.log', environment=os.environ,\n"
        "    grace_seconds=1.0)\n"
        "time.sleep(300)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    assert wait_until(lambda: len(descendants(starter.pid)) == 3)
    below = descendants(starter.pid)
    starter.kill()
    starter.wait()
    assert wait_until(lambda: not [pid for pid in below if alive(pid)])


WORKER = """
import signal, subprocess, sys, time
run = '''
import signal, sys, time
def end(*_):
    time.sleep(0.5)
    print("run saved", flush=True)
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(300)
'''
child = subprocess.Popen([sys.executable, "-c", run])
def stop(*_):
    print("worker stops", flush=True)
    child.kill()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while child.poll() is None: time.sleep(0.05)
print("run reported", flush=True)
time.sleep(300)
"""
"""Like Prefect's worker: on SIGTERM it kills its runs without letting them save."""


def test_inner_first_lets_runs_save_before_the_worker_stops(tmp_path: Path) -> None:
    child = start_child(
        "worker",
        [sys.executable, "-c", WORKER],
        log=tmp_path / "worker.log",
        environment=os.environ,
        inner_first=True,
    )
    assert wait_until(lambda: "ready" in child.log.read_text())
    child.stop()
    said = child.log.read_text().split("\n")[:-1]
    assert said == ["ready", "run saved", "run reported", "worker stops"]
    assert child.ended() == 0


def test_guardian_gives_the_status_of_its_command(tmp_path: Path) -> None:
    for program, status in (("exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)):
        child = start_child(
            "x", [sys.executable, "-c", program], log=tmp_path / "x.log", environment=os.environ
        )
        assert child.process.wait(timeout=20) == status
        child.stop()


def test_wait_for_server_shows_the_log_of_a_server_that_dies(tmp_path: Path) -> None:
    program = "import sys; print('the disk is full'); sys.exit(4)"
    child = start_child(
        "MLflow server",
        [sys.executable, "-c", program],
        log=tmp_path / "logs" / "mlflow.log",
        environment=os.environ,
    )
    with pytest.raises(QuartetError) as caught:
        wait_for_server("MLflow", free_port(), child, os.environ, say=print)
    child.stop()
    for part in ("status 4", "the disk is full", str(child.log)):
        assert part in str(caught.value)


def test_wait_for_server_is_bounded_and_tells_of_a_server_that_never_answers(
    tmp_path: Path,
) -> None:
    child = start_child(
        "Prefect server",
        [sys.executable, "-c", "import time; time.sleep(300)"],
        log=tmp_path / "p.log",
        environment=os.environ,
    )
    with pytest.raises(QuartetError, match="no answer on port"):
        wait_for_server("Prefect", free_port(), child, os.environ, say=print, seconds=1.0)
    child.process.send_signal(signal.SIGTERM)
    child.stop()


ANSWERING = """
import http.server, sys
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        health = self.path.endswith("/health")
        self.send_response(200 if health or sys.argv[2] == "open" else 401)
        self.end_headers()
        self.wfile.write((b"true" if "api" in self.path else b"OK") if health else b"3.8")
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


@pytest.mark.parametrize("kind", ["Prefect", "MLflow"])
@pytest.mark.parametrize("closed", ["open", "closed"])
def test_a_server_of_others_that_took_the_port_meanwhile_is_not_taken_for_ours(
    tmp_path: Path, kind: Kind, closed: str
) -> None:
    port = free_port()
    program = [sys.executable, "-c", ANSWERING, str(port), closed]
    slow = [sys.executable, "-c", "import time; time.sleep(300)"]
    child = start_child(kind, slow, log=tmp_path / "logs" / "x.log", environment=os.environ)
    with subprocess.Popen(program) as others:
        try:
            with pytest.raises(QuartetError, match=f"taken port {port} .*`--{kind.lower()}-port`"):
                wait_for_server(kind, port, child, os.environ, say=print)
        finally:
            others.kill()
            child.stop()


@pytest.mark.parametrize("kind", ["Prefect", "MLflow"])
def test_a_server_of_others_is_known_before_ours_has_begun(tmp_path: Path, kind: Kind) -> None:
    port = free_port()
    program = [sys.executable, "-c", ANSWERING, str(port), "closed"]
    idle = [sys.executable, "-c", "import time; time.sleep(300)"]  # a guardian without a server
    with subprocess.Popen(program) as others, subprocess.Popen(idle) as guardian:
        child = Child(name=kind, process=guardian, log=tmp_path / "logs" / "x.log")
        try:
            with pytest.raises(QuartetError, match=f"taken port {port}"):
                wait_for_server(kind, port, child, os.environ, say=print)
        finally:
            others.kill()
            guardian.kill()


@pytest.mark.parametrize("closed", ["open", "closed"])
def test_a_server_of_others_that_begins_as_we_ask_is_not_taken_for_ours(
    tmp_path: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, begun = free_port(), []

    def ask_late(kind: Kind, url: str, environment: Mapping[str, str]) -> RunningServer | None:
        if not begun:
            program = [sys.executable, "-c", ANSWERING, str(port), closed]
            begun.append(subprocess.Popen(program))
            assert wait_until(lambda: lookup.served_by_others(port, []))
        return lookup.find_server(kind, url, environment)

    monkeypatch.setattr(servers, "find_server", ask_late)
    slow = [sys.executable, "-c", "import time; time.sleep(300)"]
    child = start_child("MLflow", slow, log=tmp_path / "logs" / "x.log", environment=os.environ)
    try:
        with pytest.raises(QuartetError, match=f"taken port {port}"):
            wait_for_server("MLflow", port, child, os.environ, say=print)
    finally:
        child.stop()
        for others in begun:
            others.kill()
            others.wait()


def test_prefect_server_of_others_is_known_by_its_password_where_the_system_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "PROCESSES", tmp_path)
    port = free_port()
    program = [sys.executable, "-c", ANSWERING, str(port), "closed"]
    child = start_child("Prefect", program, log=tmp_path / "x.log", environment=os.environ)
    try:
        with pytest.raises(QuartetError, match=f"taken port {port} .*`--prefect-port`"):
            wait_for_server("Prefect", port, child, os.environ, say=print)
    finally:
        child.stop()


@pytest.mark.parametrize("kind", ["Prefect", "MLflow"])
def test_a_server_that_we_started_is_ours(tmp_path: Path, kind: Kind) -> None:
    port = free_port()
    program = [sys.executable, "-c", ANSWERING, str(port), "open"]
    child = start_child(kind, program, log=tmp_path / "x.log", environment=os.environ)
    try:
        assert wait_for_server(kind, port, child, os.environ, say=print).version == "3.8"
    finally:
        child.stop()


def test_mlflow_server_explains_a_database_from_a_newer_version(home: Path) -> None:
    import sqlite3

    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = 'fffffffffff0'")
    settings, port = Settings(home=home), free_port()
    child = start_child(
        "MLflow server",
        server_command("MLflow", port, closed=False),
        log=home / "logs" / "mlflow-server.log",
        environment=server_environment("MLflow", settings, port, None),
    )
    try:
        with pytest.raises(QuartetError) as caught:
            wait_for_server("MLflow", port, child, os.environ, say=print)
    finally:
        child.stop()
    assert str(home / "mlflow.db") in str(caught.value)
    assert "version" in str(caught.value)
