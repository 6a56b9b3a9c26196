"""Nobody but its owner reads or starts anything on what `quartet up` and `quartet serve` serve.

The attackers are a page of another origin in the owner's own browser, logged in to both servers; a
page whose name was rebound to loopback; and another account of this machine.
"""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.flows.browser import Browser, browser
from tests.flows.cli.test_use import served as model_served
from tests.flows.cli.test_use import tiny_model
from tests.flows.operated import Operation, operated

pytestmark = pytest.mark.slow

ATTACK = """
(async () => {
  const taken = [];
  const attempt = async (name, url, options) => {
    try {
      const answer = await fetch(url, options);
      if (answer.type !== "opaque" && answer.ok) taken.push(name + " read " + url);
    } catch (error) {}
  };
  for (const [read, write, body] of TARGETS) {
    for (const credentials of ["omit", "include"]) {
      await attempt("page", read, {credentials});
      for (const [mode, type] of [["cors", "application/json"], ["cors", "text/plain"],
                                  ["no-cors", "text/plain"]]) {
        const headers = {"Content-Type": type};
        await attempt(mode + " " + type, write, {method: "POST", mode, credentials, headers, body});
      }
    }
    const form = document.createElement("form");
    form.method = "POST"; form.enctype = "text/plain"; form.action = write;
    form.target = "frame";
    const field = document.createElement("input");
    [field.name, field.value] = [body.slice(0, -1) + ', "x": "', '"}'];
    form.append(field); document.body.append(form); form.submit();
    await new Promise(done => setTimeout(done, 1000));
  }
  return taken;
})()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operation]:
    """A `quartet up` as it is shipped, without a worker."""
    with operated(tmp_path_factory.mktemp("served"), worker=False) as running:
        yield running


@pytest.fixture(scope="module")
def model(served: Operation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a `quartet serve` with the same home folder."""
    with model_served(served.home, tiny_model(tmp_path_factory)) as (_, port):
        yield f"http://127.0.0.1:{port}"


class _Page(http.server.BaseHTTPRequestHandler):
    """An attacker's page; as a control it also plays a server that answers every origin."""

    seen: list[str] = []  # noqa: RUF012 - bodies that arrived

    def do_GET(self) -> None:
        self._answer(b"<!doctype html><body><iframe name=frame></iframe></body>")

    def do_OPTIONS(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self.seen.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def attacker() -> Iterator[int]:
    """Port of the attacker's server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def victim(served: Operation) -> Iterator[Browser]:
    """The owner's browser, logged in to both servers."""
    with browser("--host-resolver-rules=MAP *.example 127.0.0.1") as tab:
        tab.log_in_to_prefect(served.api.removesuffix("/api"), served.password)
        tab.log_in_to_mlflow(served.mlflow_uri, served.password)
        yield tab


def _targets(served: Operation, model: str) -> list[tuple[str, str, str]]:
    """What to read, where to start something, and the body that does."""
    prompt = '{"prompt": "evil", "max_tokens": 1}'
    tracking = f"{served.mlflow_uri}/ajax-api/2.0/mlflow/experiments"
    return [
        (f"{served.api}/admin/version", f"{served.api}/flows/", '{"name": "evil"}'),
        (f"{served.api}/flows/count", f"{served.api}/work_pools/", '{"name": "evil"}'),
        (f"{tracking}/get?experiment_id=0", f"{tracking}/create", '{"name": "evil"}'),
        (f"{model}/v1/models", f"{model}/v1/completions", prompt),
    ]


def _started(served: Operation) -> list[str]:
    """What an attack has left on the servers."""
    with served.client() as client:
        names = [one.name for one in [*client.read_flows(), *client.read_work_pools()]]
    names += [one.name for one in served.mlflow.search_experiments()]
    return [one for one in names if "evil" in one]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1", "http://localhost"])
def test_page_of_another_origin_reads_and_starts_nothing(
    served: Operation, model: str, victim: Browser, attacker: int, origin: str
) -> None:
    victim.open(f"{origin}:{attacker}")
    script = ATTACK.replace("TARGETS", json.dumps(_targets(served, model)))
    assert victim.run(script) == []
    assert _started(served) == []


def test_the_attack_works_on_a_server_that_answers_every_origin(
    victim: Browser, attacker: int
) -> None:
    """The control: the same page takes what is open."""
    url = f"http://open.example:{attacker}/"
    victim.open(f"http://evil.example:{attacker}")
    _Page.seen.clear()
    script = ATTACK.replace("TARGETS", json.dumps([[url, url, '{"name": "evil"}']]))
    assert len(victim.run(script)) >= 3
    assert len([one for one in _Page.seen if "evil" in one]) >= 6


def test_page_whose_name_was_rebound_reads_nothing(
    served: Operation, model: str, victim: Browser
) -> None:
    for url in [served.mlflow_uri, *(read for read, _, _ in _targets(served, model))]:
        victim.open(url.replace("127.0.0.1", "evil.example"))
        text = str(victim.run("document.documentElement.innerText"))
        assert "Unauthorized" in text or "Invalid Host" in text or "Host header" in text, text
    for host in ("evil.example", "10.evil.example", "192.168.evil.example"):
        for read, write, body in _targets(served, model):
            header = {"Host": f"{host}:{httpx.URL(read).port}", "Origin": f"http://{host}"}
            assert httpx.get(read, headers=header).status_code in (401, 403)
            assert httpx.post(write, headers=header, content=body).status_code in (401, 403)
            signed = ("admin", served.password)
            if read.startswith(served.mlflow_uri):  # even with the password it does not answer
                assert httpx.get(read, headers=header, auth=signed).status_code == 403
    own = {"Authorization": f"Bearer {served.password}"}  # the control: its owner is served
    assert httpx.get(f"{model}/v1/models", headers=own).status_code == 200
    assert _started(served) == []


INTRUDER = """
import json, os, pathlib, sys, urllib.request
home, targets, pids = json.loads(sys.argv[1])
taken = []
for place, _, files in os.walk(home):
    taken += [os.path.join(place, one) for one in files]
for path in [os.path.join(home, "password"), *(f"/proc/{pid}/environ" for pid in pids)]:
    try:
        taken.append(open(path, "rb").read().decode())
    except OSError:
        pass
for pid in pids:
    taken += [one for one in [open(f"/proc/{pid}/cmdline").read()] if sys.argv[2] in one]
for read, write, body in targets:
    for url, data in ((read, None), (write, body.encode())):
        header = {"Content-Type": "application/json"}
        try:
            taken.append(urllib.request.urlopen(urllib.request.Request(url, data, header)).read())
        except OSError:
            pass
print(taken)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_another_account_reads_and_starts_nothing(served: Operation, model: str) -> None:
    from tasks.machine.guardian import descendants

    served.home.parent.chmod(0o755)
    pids = [served.process.pid, *descendants(served.process.pid)]
    words = [json.dumps([str(served.home), _targets(served, model), pids]), served.password[:12]]
    python = shutil.which("python3", path="/usr/bin") or sys.executable  # one it may execute
    done = subprocess.run(
        [python, "-c", INTRUDER, *words],
        capture_output=True, text=True, user=65534, group=65534, extra_groups=[], cwd="/", env={},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert _started(served) == []


def test_password_stands_nowhere_but_in_its_file(served: Operation) -> None:
    secret = served.password.encode()
    files = [path for path in served.home.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [one.name for one in files if secret in one.read_bytes()] == ["password"]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret not in entry.read_bytes(), entry
        except OSError:
            continue


@pytest.mark.parametrize(
    ("kind", "variable", "value", "words"),
    [
        ("Prefect", "PREFECT_API_AUTH_STRING", None, ["run", "quickstart"]),
        ("Prefect", "PREFECT_API_AUTH_STRING", "admin:wrong-password", ["status"]),
        ("MLflow", "MLFLOW_TRACKING_PASSWORD", None, ["status"]),
        ("MLflow", "MLFLOW_TRACKING_PASSWORD", "wrong-password", ["run", "quickstart"]),
    ],
)
def test_missing_or_wrong_password_is_one_line_that_names_the_variable(
    served: Operation, tmp_path: Path, kind: str, variable: str, value: str | None,
    words: list[str],
) -> None:  # fmt: skip
    given: dict[str, str | None] = {**os.environ, **served.credentials(), variable: value}
    given |= {"PREFECT_API_URL": served.api, "QUARTET_TRACKING_URI": served.mlflow_uri}
    given |= {"QUARTET_HOME": str(tmp_path / "other")}
    environment = {name: text for name, text in given.items() if text is not None}
    command = [sys.executable, "-c", "from flows.cli.app import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    place = done.stdout if words == ["status"] else done.stderr
    said = [one for one in place.splitlines() if variable in one]
    assert said, done.stdout + done.stderr
    assert kind in said[-1]
    assert "Traceback" not in done.stdout + done.stderr
    assert served.password not in done.stdout + done.stderr
    assert done.returncode == (words[0] == "run")
