"""`quartet up` on PostgreSQL, and every command beside it, with passwords everywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.operation.servers import choose_servers
from models.errors import QuartetError
from tasks.machine.lookup import Kind
from tasks.machine.postgres import check_database
from tasks.settings import Settings
from tests.flows.conftest import TINY
from tests.flows.operated import Operation, operated
from tests.infra.stack import Stack
from tests.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _urls(stack: Stack) -> dict[str, str]:
    place = f"127.0.0.1:{stack.ports['postgres']}"
    passwords = stack.values["PREFECT_DB_PASSWORD"], stack.values["MLFLOW_DB_PASSWORD"]
    prefect = f"postgresql+asyncpg://prefect:{passwords[0]}@{place}/prefect"
    mlflow = f"postgresql://mlflow:{passwords[1]}@{place}/mlflow"
    return {
        "PREFECT_API_DATABASE_CONNECTION_URL": prefect,
        "MLFLOW_BACKEND_STORE_URI": mlflow,
    }


def _command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in another terminal, which knows the home folder only."""
    environment = {"QUARTET_HOME": str(home), "QUARTET_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli.app import main; main()", *words],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_every_command_works_on_postgresql_and_no_secret_leaves(
    databases: Stack, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with operated(home, worker=False, environment=_urls(databases)) as operation:
        settings = [word for one in TINY for word in ("--set", one)]
        said = _run(home, "run", "quickstart", *settings)
        assert operation.mlflow_uri in said
        assert operation.api.removesuffix("/api") in said
        assert not (home / "mlflow.db").exists()
        assert not (home / "prefect.db").exists()
        assert "rlhf-pipeline" in _flows(operation)
        status = _run(home, "status")
        assert status.count(", up") == 2
        assert "Rejected" in status  # the policy is tiny
        assert "fail" not in _run(home, "doctor", "--quick")
        assert "pretrain" in _run(home, "lineage", "models:/quickstart-policy/1")
        _run(home, "gc", "--dry-run")
        _run(home, "sync")
        promoted = _command(home, "promote", "models:/quickstart-policy/1", "--prompts", "30")
        assert promoted.returncode == 3, promoted.stdout + promoted.stderr  # it gained nothing
        assert "is rejected" in promoted.stdout
        _look_for_secrets(databases, operation)


def _run(home: Path, *words: str) -> str:
    done = _command(home, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "logs" / f"terminal-{words[0]}.log").write_text(done.stdout + done.stderr)
    return done.stdout


def _flows(operation: Operation) -> list[str]:
    with operation.client() as client:
        return [one.name for one in client.read_flows()]


def _look_for_secrets(databases: Stack, operation: Operation) -> None:
    needles = [one.encode() for one in (*databases.secrets, operation.password)]
    given = databases.environment("backup")
    for database in ("prefect", "mlflow"):
        dump = operation.home / f"{database}.sql"
        subprocess.run(["pg_dump", "--file", dump, database], env=given, check=True)
    files = [path for path in operation.home.rglob("*") if path.is_file()]
    found = [path.name for path in files if any(one in path.read_bytes() for one in needles)]
    assert found == ["password"]
    assert not databases.seen


def test_wrong_database_is_one_sentence_that_names_the_variable(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = _urls(databases)
    for variable, url in urls.items():
        check_database(variable, url)  # the right one
        nowhere, secret = url.rsplit("/", 1)[0] + "/nowhere", url.split(":")[2].split("@")[0]
        port = str(databases.ports["postgres"])
        closed = url.replace(f":{port}/", ":1/")
        for wrong in (nowhere, url.replace(secret, "guessed"), closed, url + "?sslmode=wrong"):
            with pytest.raises(QuartetError, match="does not let us in") as caught:
                check_database(variable, wrong)
            assert variable in str(caught.value)
            assert secret not in str(caught.value)
            assert "\n" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", urls["MLFLOW_BACKEND_STORE_URI"] + "-not")
    ports: dict[Kind, int] = dict(zip(("Prefect", "MLflow"), free_ports(2), strict=True))
    with pytest.raises(QuartetError, match="MLFLOW_BACKEND_STORE_URI"):
        choose_servers(Settings(home=databases.folder), ports, closed=False, say=print)
