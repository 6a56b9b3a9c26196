"""`quartet up` and `quartet status` with real servers, a real worker and a flow of three lines."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from tasks.machine.guardian import descendants
from tests.ports import free_ports

FLOW = """
import time
from prefect import flow, task

@task
def learn(seconds: float) -> None:
    print("learning", flush=True)
    try:
        time.sleep(seconds)
    finally:
        print("saved", flush=True)

@flow(log_prints=True)
def tiny(seconds: float = 0.0) -> None:
    learn(seconds)
"""

DEPLOYMENTS = """
name: small
pull:
- prefect.deployments.steps.set_working_directory:
    directory: {folder}
deployments:
- name: one
  entrypoint: tiny.py:tiny
  work_pool: {{name: quartet}}
  schedules:
  - {{slug: weekly, active: false, cron: "0 3 * * 0"}}
"""


def wait_until(what: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.2)
    return what()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A home folder, a small checkout and two free ports."""

    folder: Path
    prefect: int
    mlflow: int

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.prefect}/api"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "QUARTET"))}
        return {**kept, "QUARTET_HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-c", "from flows.cli.app import main; main()", *words]

    def up_words(self) -> list[str]:
        ports = ["--prefect-port", str(self.prefect), "--mlflow-port", str(self.mlflow)]
        return self.words("up", *ports, "--prefect-file", str(self.folder / "prefect.yaml"))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words), capture_output=True, text=True, env=self.environment()
        )

    def up(self) -> subprocess.Popen[bytes]:
        with (self.folder / "up.log").open("wb") as log:
            return subprocess.Popen(
                self.up_words(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=self.folder,
            )

    @property
    def auth_string(self) -> str:
        """What opens Prefect."""
        return f"admin:{(self.home / 'password').read_text().strip()}"

    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(self.api, auth_string=self.auth_string)

    def said(self) -> str:
        return (self.folder / "up.log").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "tiny.py").write_text(FLOW)
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENTS.format(folder=tmp_path))
    prefect, mlflow = free_ports(2)
    return Place(folder=tmp_path, prefect=prefect, mlflow=mlflow)


def test_up_refuses_a_busy_foreign_port_before_anything_starts(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.mlflow)) as opened:
        opened.settimeout(0.1)
        done = subprocess.run(
            place.up_words(), capture_output=True, text=True, env=place.environment(), timeout=60
        )
    assert done.returncode == 1, done.stdout
    assert str(place.mlflow) in done.stderr
    assert "--mlflow-port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place.home / "prefect.db").exists()


def test_status_tells_where_nothing_runs(place: Place) -> None:
    done = place.run("status")
    assert done.returncode == 0, done.stderr
    assert "no `quartet up` is running" in done.stdout
    assert "0 published stages" in done.stdout


@pytest.mark.slow
def test_up_serves_runs_and_leaves_nothing_behind(place: Place) -> None:
    process = place.up()
    try:
        ready = wait_until(lambda: "Ready" in place.said() or process.poll() is not None, 150)
        assert ready, place.said()
        assert process.poll() is None, place.said()
        below = descendants(process.pid)
        _check_second_up(place)
        with place.client() as client:
            deployment = client.read_deployment_by_name("tiny/one")
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters={"seconds": 300.0}
            )

            def state() -> str:
                return str(client.read_flow_run(run.id).state_name)

            assert wait_until(lambda: state() == "Running", 60)
            worker_log = place.home / "logs" / "worker.log"
            assert wait_until(lambda: "learning" in worker_log.read_text(), 30)
            status = place.run("status").stdout
            assert "quartet-" in status
            assert "Running" in status
            assert "stage learn" in status
        _check_that_what_people_set_stays(place)
        doctor = place.run("doctor")
        assert "ok    schedule: created" in doctor.stdout, doctor.stdout
        assert doctor.returncode == 0, doctor.stdout
        below += descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=90) == 0, place.said()
        assert "saved" in worker_log.read_text()
        assert "Finished in state Crashed" in worker_log.read_text()
        assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
        for port in (place.prefect, place.mlflow):
            with socket.socket() as opened:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.bind(("127.0.0.1", port))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


AUTOMATION = """
name: evaluate-on-registration
trigger:
  type: event
  expect: [quartet.model.registered]
  posture: Reactive
  threshold: 1
  within: 0
actions:
- {type: run-deployment, source: selected, deployment: tiny/one}
"""


def _check_that_what_people_set_stays(place: Place) -> None:
    """A schedule and an automation that were switched on survive the next registration."""
    from flows.operation.registration import apply_automations, deploy

    folder = place.folder / "automations"
    folder.mkdir()
    (folder / "evaluate.yaml").write_text(AUTOMATION)
    opened = temporary_settings({PREFECT_API_AUTH_STRING: place.auth_string})
    with opened, place.client() as client:
        one = client.read_deployment_by_name("tiny/one")
        assert [(s.slug, s.active) for s in one.schedules] == [("weekly", False)]
        assert apply_automations(place.api, folder) == ["evaluate-on-registration"]
        (made,) = client.read_automations_by_name("evaluate-on-registration")
        assert made.enabled is False
        assert made.actions[0].deployment_id == one.id  # type: ignore[union-attr]

        client.resume_automation(made.id)
        client.update_deployment_schedule(one.id, one.schedules[0].id, active=True)
        apply_automations(place.api, folder)
        environment = {**place.environment(), "PREFECT_API_URL": place.api}
        environment["PREFECT_API_AUTH_STRING"] = place.auth_string
        file, log = place.folder / "prefect.yaml", place.folder / "again.log"
        assert deploy(place.api, file, log=log, environment=environment) == ["one"]
        (again,) = client.read_automations_by_name("evaluate-on-registration")
        assert (again.id, again.enabled) == (made.id, True)
        one = client.read_deployment_by_name("tiny/one")
        assert [(s.slug, s.active) for s in one.schedules] == [("weekly", True)]


def _check_second_up(place: Place) -> None:
    second = subprocess.run(
        place.up_words(), capture_output=True, text=True, env=place.environment(), timeout=60
    )
    assert second.returncode == 1
    assert "another `quartet up`" in second.stderr
    connection = http.client.HTTPConnection("127.0.0.1", place.mlflow, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
