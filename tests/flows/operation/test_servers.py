"""Which servers `quartet up` uses: its own, those of this machine, or those that are named."""

import socket
from pathlib import Path

import pytest

from flows.operation.servers import choose_servers
from models.errors import QuartetError
from tasks.machine.lookup import Kind
from tasks.settings import Settings
from tests.ports import free_ports


def _ports() -> dict[Kind, int]:
    prefect, mlflow = free_ports(2)
    return {"Prefect": prefect, "MLflow": mlflow}


def test_servers_that_are_nowhere_are_started_on_their_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = _ports()
    for api in ("", "http://127.0.0.1:4999/api"):  # an address of this machine: the port decides
        monkeypatch.setenv("PREFECT_API_URL", api)
        found = choose_servers(Settings(home=tmp_path), ports, closed=False, say=print)
        assert found.wanted == ports
        assert found.api == f"http://127.0.0.1:{ports['Prefect']}/api"


def test_running_server_of_this_machine_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    ports: dict[Kind, int] = _ports() | {"Prefect": int(prefect_server.split(":")[2].split("/")[0])}
    found = choose_servers(Settings(home=tmp_path), ports, closed=False, say=print)
    assert list(found.wanted) == ["MLflow"]


@pytest.mark.parametrize("kind", ["Prefect", "MLflow"])
def test_server_elsewhere_that_does_not_answer_is_an_error_and_none_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with socket.socket() as closed:  # bound, so nobody else takes it, and nobody listens
        closed.bind(("127.0.0.2", 0))  # not the loopback address of this machine's servers
        url = f"http://127.0.0.2:{closed.getsockname()[1]}"
        if kind == "Prefect":
            monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        variable = "PREFECT_API_URL" if kind == "Prefect" else "QUARTET_TRACKING_URI"
        settings = Settings(home=tmp_path, tracking_uri=url if kind == "MLflow" else "")
        with pytest.raises(QuartetError, match=f"no {kind} server at .*unset {variable}"):
            choose_servers(settings, _ports(), closed=False, say=print)
