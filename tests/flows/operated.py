"""`quartet up` in a process of its own, worked through the API as the UI does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import httpx
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Scheduled

from flows.forms import RunForm, StageForm
from tasks.machine.guardian import descendants
from tasks.results.store import Manifest
from tests.ports import free_ports

IN_TWO = {"QUARTET_PROCESSES": "2", "QUARTET_DEVICE": "cpu"}
"""Job variables of a run whose trainings are two processes."""

QUARTET = (sys.executable, "-c", "from flows.cli.app import main; main()")
"""The command of the checkout."""

READY_SECONDS = 120
RUN_SECONDS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A `quartet up` that is ready."""

    process: subprocess.Popen[str]
    home: Path
    api: str
    mlflow_uri: str
    log: Path

    @property
    def mlflow(self) -> Any:
        """A client of the MLflow server."""
        return MlflowClient(self.mlflow_uri)

    @property
    def password(self) -> str:
        """What opens both servers, for the user admin."""
        return (self.home / "password").read_text().strip()

    def client(self) -> SyncPrefectClient:
        """A client of the Prefect server."""
        return SyncPrefectClient(self.api, auth_string=f"admin:{self.password}")

    def credentials(self) -> dict[str, str]:
        """Environment of clients."""
        return {
            "PREFECT_API_AUTH_STRING": f"admin:{self.password}",
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """What Prefect's API answers to a body; a busy database is asked again, as clients do."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            signed = ("admin", self.password)
            answers.append(httpx.post(f"{self.api}/{path}", json=body, auth=signed, timeout=30))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        until(answered, 60, f"an answer to {path}")
        assert answers[-1].is_success, answers[-1].text
        return answers[-1].json()

    def start(
        self,
        deployment: str,
        called: str = "Tasty-Otter",
        settings: Mapping[str, str] = MappingProxyType({}),
        **parameters: Any,
    ) -> UUID:
        """Start a run as Prefect's dialog does: it fills in a name, and takes job variables."""
        with self.client() as client:
            known = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(
                known.id,
                parameters=parameters,
                name=called,
                job_variables={"env": dict(settings)} if settings else None,
            ).id

    def start_pipeline(self, *further: str, approval: bool = False, **how: Any) -> UUID:
        """Start the quickstart with further settings."""
        form = RunForm.of("quickstart", further).model_dump(mode="json")
        return self.start("rlhf-pipeline/quickstart", run={**form, "approval": approval}, **how)

    def start_pretraining(self, *further: str) -> UUID:
        """Start the quickstart's first stages alone, as far as its base model."""
        form = StageForm.of("quickstart", further).model_dump(mode="json")
        return self.start("pretrain/pretrain", run=form)

    def run(self, run_id: UUID) -> FlowRun:
        """A flow run as it stands."""
        with self.client() as client:
            return client.read_flow_run(run_id)

    def wait(self, run_id: UUID, *states: str, seconds: float = RUN_SECONDS) -> str:
        """Wait until a run is in one of some states, and give its message.

        A run whose policy is rejected, as that of a tiny one is, has completed too.
        """
        states = (*states, "Rejected") if "Completed" in states else states

        def reached() -> bool:
            state = client.read_flow_run(run_id).state
            assert state is not None
            if state.is_final() and state.name not in states:
                raise AssertionError(f"{state.name}: {state.message}\n{self.logs(run_id)[-3000:]}")
            return state.name in states

        with self.client() as client:
            until(reached, seconds, f"run in state {states}")
        state = self.run(run_id).state
        return (state and state.message) or ""

    def wait_for_log(self, run_id: UUID, words: str, seconds: float = RUN_SECONDS) -> None:
        """Wait until a run has logged some words."""
        with self.client() as client:
            until(lambda: words in logs(client, run_id), seconds, f"{words!r} in the log")

    def logs(self, run_id: UUID) -> str:
        """What a run has logged."""
        with self.client() as client:
            return logs(client, run_id)

    def cancel(self, run_id: UUID) -> None:
        """What the button does."""
        with self.client() as client:
            client.set_flow_run_state(run_id, Cancelling())

    def retry(self, run_id: UUID) -> None:
        """What the button does."""
        with self.client() as client:
            client.set_flow_run_state(run_id, Scheduled(name="AwaitingRetry"), force=True)

    def parent(self, run_id: UUID) -> Run:
        """The MLflow run of a flow run: there is exactly one."""
        runs = self.mlflow.search_runs(
            [self._experiment], filter_string=f"tags.`prefect.flow_run_id` = '{run_id}'"
        )
        assert len(runs) == 1, f"{len(runs)} MLflow parents"
        return runs[0]

    def children(self, run_id: UUID) -> dict[str, Run]:
        """The stages' MLflow runs below a flow run's, by stage."""
        parent = self.parent(run_id).info.run_id
        runs = self.mlflow.search_runs(
            [self._experiment], filter_string=f"tags.`mlflow.parentRunId` = '{parent}'"
        )
        found = {run.data.tags["quartet.stage"]: run for run in runs}
        assert len(found) == len(runs), "a stage has several runs"
        return found

    def task_states(self, run_id: UUID) -> list[str | None]:
        """The states of a flow run's tasks, by name."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        with self.client() as client:
            return [one.state_name for one in client.read_task_runs(flow_run_filter=wanted)]

    def log_times(self, run_id: UUID, words: str) -> list[float]:
        """When a run logged some words, in seconds since 1970, in order."""
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
        with self.client() as client:
            lines = client.read_logs(wanted, limit=200)
        return sorted(one.timestamp.timestamp() for one in lines if words in one.message)

    def flow_process(self, run_id: UUID) -> int | None:
        """Process id of a flow run, while it lives."""
        for entry in Path("/proc").iterdir():
            try:
                environment = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
                engine = b"prefect.engine" in (entry / "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if engine and f"PREFECT__FLOW_RUN_ID={run_id}".encode() in environment:
                return int(entry.name)
        return None

    def team(self) -> dict[str, list[int]]:
        """Processes of the flows and their trainings: flow, guardian, torchrun and rank."""
        found: dict[str, list[int]] = {}
        for pid in descendants(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "torch.distributed.run" in words:
                kind = "guardian" if any("guardian.py" in word for word in words) else "torchrun"
            elif "models.distributed.worker" in words:
                kind = "rank"
            elif "prefect.engine" in words or "prefect.flow_engine" in words:
                kind = "flow"
            else:
                continue
            found.setdefault(kind, []).append(pid)
        return found

    @property
    def _experiment(self) -> str:
        return str(self.mlflow.get_experiment_by_name("quartet").experiment_id)


def logs(client: SyncPrefectClient, run_id: UUID) -> str:
    """What a run has logged, by a client that is open: making one costs more than asking."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    return "\n".join(one.message for one in client.read_logs(wanted, limit=200))


def weights(manifest: Manifest) -> dict[str, str]:
    """Digests of a stage's weights by file."""
    found = {
        name: one.sha256 for name, one in manifest.files.items() if name.endswith(".safetensors")
    }
    assert found
    return found


def until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something.

    Raises:
        AssertionError: It did not happen in time.
    """
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.5)


@contextmanager
def operated(
    home: Path,
    *,
    worker: bool = True,
    environment: Mapping[str, str] = MappingProxyType({}),
    program: Sequence[str] = QUARTET,
) -> Iterator[Operation]:
    """Run `quartet up` on free ports, with Quartet's own deployments."""
    ports = free_ports(2)
    log = home / "up.log"
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "QUARTET_HOME": str(home),
        "QUARTET_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    given.pop("QUARTET_TRACKING_URI", None)
    words = ["up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    words += [] if worker else ["--no-worker"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*program, *words],
            stdout=file, stderr=subprocess.STDOUT, env=given, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        until(
            lambda: "Ready after" in log.read_text() or process.poll() is not None,
            READY_SECONDS,
            "`quartet up`",
        )
        assert process.poll() is None, log.read_text()
        operation = Operation(
            process=process,
            home=home,
            api=f"http://127.0.0.1:{ports[0]}/api",
            mlflow_uri=f"http://127.0.0.1:{ports[1]}",
            log=log,
        )
        with pytest.MonkeyPatch.context() as patch:  # MLflow's client reads the environment
            for name, value in operation.credentials().items():
                patch.setenv(name, value)
            yield operation
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=90)
