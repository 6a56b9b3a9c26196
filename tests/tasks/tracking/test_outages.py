"""Notes of what MLflow missed, and what its errors mean, in one line."""

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import QuartetError
from tasks.machine.lookup import CERTIFICATES, find_server
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.metrics import Point
from tasks.tracking.outages import (
    OutageNote,
    answers,
    check_health,
    describe,
    explain_unopened,
    read_notes,
    tolerated,
    write_note,
)
from tests.tls import make_certificate, serve_tls


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"[" * 100_000, b'{"name": 1}', None])
def test_damaged_note_is_left_out_and_the_others_are_read(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    write_note(tmp_path, OutageNote(name="mine", run_id="abc", status="KILLED"))
    damaged = tmp_path / "unrecorded" / "damaged.json"
    damaged.mkdir() if content is None else damaged.write_bytes(content)
    assert [note.name for note in read_notes(tmp_path)] == ["mine"]
    assert f"left out the note {damaged}" in caplog.text


def test_note_with_a_name_that_is_no_id_is_left_out(tmp_path: Path) -> None:
    note = OutageNote(name="mine", run_id="abc", status="KILLED")
    for run_id in ("../store", "\0" * 32, "a" * 500):
        foreign = note.model_copy(update={"run_id": run_id}).model_dump_json()
        (tmp_path / "unrecorded").mkdir(exist_ok=True)
        (tmp_path / "unrecorded" / "foreign.json").write_text(foreign)
        assert read_notes(tmp_path) == []


class Refusal(Exception):
    """As MLflow's client raises it for HTTP's 401 and 403."""

    error_code = "UNAUTHENTICATED"


def test_refused_account_names_the_variables(tmp_path: Path) -> None:
    error = Refusal("failed with error code 401 != 200.\nYou are not authenticated.")
    assert describe(error) == (
        "failed with error code 401 != 200.; set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD to an account of that server that may write"
    )
    settings = Settings(home=tmp_path, tracking_uri="http://127.0.0.1:5000")
    sentence = str(explain_unopened(error, settings))
    assert sentence.startswith("MLflow at http://127.0.0.1:5000 refuses this account")
    assert "MLFLOW_TRACKING_PASSWORD" in sentence


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("(sqlite3.DatabaseError) file is not a database\n[SQL: x]", "mlflow.db is damaged"),
        ("(sqlite3.OperationalError) disk I/O error", "its disk is full or fails"),
        ("something else", "does not open experiment 'quartet' (something else)"),
    ],
)
def test_database_that_does_not_open_is_one_line(tmp_path: Path, words: str, wanted: str) -> None:
    sentence = str(explain_unopened(Exception(words), Settings(home=tmp_path)))
    assert wanted in sentence
    assert "\n" not in sentence


ANSWERS = {
    "fails": (500, {}, b"<html>\n<body>proxy error</body></html>"),
    "gives no JSON": (200, {"Content-Type": "text/html"}, b"<html>\nlog in</html>"),
    "gives other JSON": (200, {"Content-Type": "application/json"}, b"[1, 2]"),
    "sends elsewhere": (302, {"Location": "/again"}, b""),
    "refuses": (401, {}, b"You are not authenticated.\nPlease see the docs."),
}


@pytest.fixture(params=list(ANSWERS))
def troubled(request: pytest.FixtureRequest) -> Iterator[str]:
    """An MLflow that is healthy and then answers anything else."""
    status, headers, body = ANSWERS[request.param]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            healthy = self.path == "/health"
            self.send_response(200 if healthy else status)
            for name, value in {} if healthy else headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"OK" if healthy else body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_server_that_answers_nonsense_delays_metrics_and_is_one_line(
    tmp_path: Path,
    troubled: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    tracker = Tracker(Settings(home=tmp_path, tracking_uri=troubled))
    with pytest.raises(QuartetError) as raised:
        tracker.check()
    assert "\n" not in str(raised.value)
    assert troubled in str(raised.value)
    buffer = tracker.buffer(lambda: "0" * 32)
    buffer.hold([Point(name="loss", value=1.0, step=1, time_ms=1)])
    with tolerated("the start of a stage"):
        tracker.start_run("name", parameters={}, tags={})
    assert all("\n" not in one.getMessage() for one in caplog.records if one.name[:5] == "tasks")
    assert "MLflow failed at the start of a stage" in caplog.text
    assert not buffer.flush()
    assert buffer.interrupted  # so that the end of the stage looks for gaps
    assert len(buffer._waiting) == 1


@pytest.mark.parametrize("variable", CERTIFICATES["MLflow"])
def test_authority_of_ones_own_is_read_from_the_variables_of_mlflows_client(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_certificate(tmp_path)
    for name in CERTIFICATES["MLflow"]:
        monkeypatch.delenv(name, raising=False)
    with serve_tls(tmp_path) as url:
        assert not answers(url)
        with pytest.raises(QuartetError, match="CERTIFICATE_VERIFY_FAILED"):
            check_health(url)
        monkeypatch.setenv(variable, str(authority))
        assert find_server("MLflow", url) is not None
        assert answers(url)
        check_health(url)
        subprocess.run(["openssl", "rehash", tmp_path], check=True, capture_output=True)
        monkeypatch.setenv(variable, str(tmp_path))
        assert answers(url)
        monkeypatch.setenv(variable, str(tmp_path / "absent.pem"))
        assert not answers(url)
        with pytest.raises(QuartetError, match=f"{variable} is {tmp_path / 'absent.pem'}"):
            check_health(url)
