"""Several hosts that share nothing but what goes through their cables, and cables that are cut."""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

from flows.forms import RunForm
from flows.pipeline import rlhf_pipeline
from flows.planning.plan import Plan, plan_of
from tasks.results.manifests import list_published
from tasks.results.store import Manifest
from tests.flows.hosts import (
    Network,
    hosts_possible,
    network,
    servers_on,
    started_on,
    up_on,
)
from tests.flows.operated import Operation, until, weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(hosts_possible()), reason=hosts_possible() or "hosts are possible"),
]

WORKERS = ("alpha", "beta")
LONG_PPO = ("ppo.iterations=150", "ppo.checkpoint_iterations=1")
"""Time enough to cut a cable."""
CUTS = int(os.environ.get("QUARTET_TEST_CUTS", "1"))
"""How often the cable of a host is cut while it learns with another; a campaign takes more."""
TWO_NODES = (f"ppo.iterations={40 + 4 * CUTS}", "ppo.checkpoint_iterations=1")
SAME = "ppo.kl_horizon=10001"
"""Another digest, but the same computation: the controller is off."""
SILENT_SECONDS = 150
"""Until a run is ended whose host is cut off: a heartbeat, a minute, and the start of a flow."""


@dataclass(frozen=True)
class Hosts:
    """One host with both servers and two with a home folder each."""

    network: Network
    operation: Operation
    homes: dict[str, Path]
    environment: dict[str, str]

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


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with network() as made:
        for host in ("servers", *WORKERS):
            made.add(host)
        with (
            servers_on(made, "servers", folder / "servers") as operation,
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
            homes = {host: folder / host for host in WORKERS}
            yield Hosts(made, operation, homes, environment)


@pytest.fixture(scope="module")
def workers(hosts: Hosts) -> Iterator[list[subprocess.Popen[str]]]:
    """A `quartet up` on each of the two, with a worker and no server."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(up_on(hosts.network, host, home, environment=hosts.environment))
            for host, home in hosts.homes.items()
        ]


@pytest.mark.campaign
def test_a_pipeline_over_hosts_whose_cables_are_cut(
    hosts: Hosts, workers: list[subprocess.Popen[str]], tiny: tuple[str, ...], tmp_path: Path
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
    alone = {one.spec.name: one.digest for one in _plan(tmp_path, tiny).stages}
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
    assert [one.poll() for one in workers] == [None, None], "`quartet up` is still there"


def test_hosts_that_learn_together_and_a_cable_that_is_cut(
    hosts: Hosts, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    here, there = WORKERS
    cables, address = hosts.network, f"{hosts.network.address(here)}:29511"
    settings = [word for one in (*tiny, *TWO_NODES) for word in ("--set", one)]
    as_one = hosts.environment | {"QUARTET_PROCESSES": "2", "QUARTET_THREADS": "2"}
    as_two = hosts.environment | {"QUARTET_NODES": "2", "QUARTET_RENDEZVOUS": address}

    def run(name: str, environment: dict[str, str], *further: str) -> Any:
        words = ("run", "quickstart", *settings, *further)
        return started_on(
            cables, here, hosts.homes[here], tmp_path / name, *words, environment=environment
        )

    def ppo() -> tuple[Manifest, dict[str, str]]:
        made = [one for _, one in list_published(hosts.homes[here] / "store") if one.stage == "ppo"]
        newest = max(
            made, key=lambda one: (hosts.homes[here] / "store/ppo" / one.digest).stat().st_mtime
        )
        return newest, weights(newest)

    # One process trains what PPO begins with: a start of two for each stage would take a minute.
    with run("chain", hosts.environment, "--set", "ppo.iterations=1") as chain:
        assert chain.wait(600) == 0, (tmp_path / "chain").read_text()
    with run("alone", as_one) as alone:
        assert alone.wait(600) == 0, (tmp_path / "alone").read_text()
    wanted = ppo()
    joined = started_on(
        cables, there, hosts.homes[there], tmp_path / "join", "join", address,
        environment=hosts.environment,
    )  # fmt: skip
    moments, lost = random.Random(7), f"host {there} has given no sign of life"
    with joined as guest:
        for number in range(CUTS):
            log = tmp_path / f"cut-{number}"
            with run(log.name, as_two, "--set", SAME) as cut:
                _wait_for(log, "ppo: step", 240)
                _wait(moments.uniform(0.5, 2))
                cables.cut(there)
                _wait_for(log, lost, 30)
                cables.mend(there)
                assert cut.wait(120) != 0
        with run("again", as_two, "--set", SAME) as again:
            assert again.wait(600) == 0, (tmp_path / "again").read_text()
        said = (tmp_path / "again").read_text()
        assert "ppo: step 1 of" not in said, "it resumed"
        assert guest.poll() is None
    found = ppo()
    assert found[0].scale["nodes"] == 2
    assert found[1] == wanted[1], "two hosts with a cut cable, and two processes of one"
    left = [*(hosts.homes[there] / "store" / "ppo").glob("*.*")]
    assert {path.suffix for path in left} <= {".lock"}, "what is done leaves nothing on it"


def _plan(home: Path, settings: tuple[str, ...]) -> Plan:
    """What one host would compute by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUARTET_HOME", str(home))
        return plan_of(rlhf_pipeline, RunForm.of("quickstart", settings))


def _wait_for(log: Path, words: str, seconds: float) -> None:
    """Wait for words in a log; a failure shows all that it says."""
    try:
        until(lambda: words in log.read_text(), seconds, words)
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{log.read_text()}") from error


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
