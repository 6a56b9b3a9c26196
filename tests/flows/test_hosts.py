"""Several hosts that share nothing but what goes through their cables, and cables that are cut."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

from flows.pipeline import PipelineResult
from tasks.results.manifests import list_published
from tests.flows.hosts import Network, hosts_possible, network, servers_on, up_on
from tests.flows.operated import Operation, until, weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(hosts_possible()), reason=hosts_possible() or "hosts are possible"),
]

WORKERS = ("alpha", "beta")
LONG_PPO = ("ppo.iterations=300", "ppo.checkpoint_iterations=1")
"""Half a minute or more: time enough to cut a cable."""
SILENT_SECONDS = 150
"""Until a run is ended whose host is cut off: a heartbeat, a minute, and the start of a flow."""


@dataclass(frozen=True)
class Hosts:
    """One host with both servers and two with a worker and a home folder each."""

    network: Network
    operation: Operation
    homes: dict[str, Path]
    processes: dict[str, subprocess.Popen[str]]

    def host_of(self, run_id: UUID) -> str:
        """Where a run works."""
        return str(self.operation.parent(run_id).data.tags["quartet.host"])

    def results(self, host: str) -> dict[str, tuple[str, dict[str, str]]]:
        """Digest and weights of the stages in a home folder, the newest of each."""
        return {
            manifest.stage: (manifest.digest, weights(manifest))
            for _, manifest in list_published(self.homes[host] / "store")
            if any(name.endswith(".safetensors") for name in manifest.files)
        }


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with network() as made:
        for host in ("servers", *WORKERS):
            made.add(host)
        with (
            servers_on(made, "servers", tmp_path / "servers") as operation,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name, value in operation.credentials().items():
                patch.setenv(name, value)
            environment = {
                "PREFECT_API_URL": operation.api,
                "QUARTET_TRACKING_URI": operation.mlflow_uri,
                "QUARTET_DEVICE": "cpu",
                **operation.credentials(),
            }
            homes = {host: tmp_path / host for host in WORKERS}
            with (
                up_on(made, "alpha", homes["alpha"], environment=environment) as alpha,
                up_on(made, "beta", homes["beta"], environment=environment) as beta,
            ):
                yield Hosts(made, operation, homes, {"alpha": alpha, "beta": beta})


def test_a_pipeline_over_hosts_whose_cables_are_cut(
    hosts: Hosts, tiny: tuple[str, ...], first_run: PipelineResult, first_home: Any
) -> None:
    operation, cables = hosts.operation, hosts.network
    # Cut for a while, the run goes on; and it gives what one host gives.
    first = operation.start_pipeline(*tiny)
    until(lambda: bool(_host(hosts, first)), 120, "a worker that takes the run")
    here = hosts.host_of(first)
    (there,) = set(WORKERS) - {here}
    operation.wait_for_log(first, "sft")
    cables.cut(here)
    _wait(20)
    cables.mend(here)
    operation.wait(first, "Completed", seconds=400)
    alone = {ref.stage: ref.digest for ref in first_run.stages}
    made = hosts.results(here)
    assert {stage: digest for stage, (digest, _) in made.items()}.items() <= alone.items()

    # The other host trains nothing again that is finished, and is cut off for good.
    cables.cut(here)
    second = operation.start_pipeline(*tiny, *LONG_PPO)
    operation.wait_for_log(second, "ppo: step", seconds=400)
    assert hosts.host_of(second) == there
    for stage in ("pretrain", "sft", "reward"):
        assert hosts.results(there)[stage] == made[stage], "fetched, not trained"
    cables.cut(there)
    cables.mend(here)
    said = operation.wait(second, "Crashed", seconds=SILENT_SECONDS)
    assert f"host {there} has given no sign of life" in said
    until(lambda: not _running(operation, second), 60, "an end of all that counts as running")

    # A retry goes on where a worker lives; the host that comes back changes nothing of that.
    operation.retry(second)
    until(lambda: hosts.host_of(second) == here, 120, "the retry on the other host")
    cables.mend(there)
    operation.wait(second, "Completed", seconds=400)
    # What the other host did meanwhile ends by itself, and is the same.
    until(lambda: not _running(operation, second), 240, "an end on the host that came back")
    assert operation.run(second).state_name in ("Completed", "Rejected")
    assert "ppo" in hosts.results(here)
    for host in WORKERS:
        assert hosts.processes[host].poll() is None, "`quartet up` is still there"


def _host(hosts: Hosts, run_id: UUID) -> str:
    try:
        return hosts.host_of(run_id)
    except AssertionError:  # no parent in MLflow yet
        return ""


def _wait(seconds: float) -> None:
    with pytest.raises(AssertionError, match="in vain"):
        until(lambda: False, seconds, "nothing: this time passes")


def _running(operation: Operation, run_id: UUID) -> list[str]:
    """What counts as running in either server."""
    active = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    with operation.client() as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=active))
        )
    mine = [str(one.id) for one in found if one.id == run_id]
    parent = operation.parent(run_id).info
    runs = operation.mlflow.search_runs(
        [parent.experiment_id],
        filter_string=f"tags.`mlflow.parentRunId` = '{parent.run_id}'",
    )
    mine += ["the pipeline"] if parent.status == "RUNNING" else []
    return mine + [str(one.info.run_name) for one in runs if one.info.status == "RUNNING"]
