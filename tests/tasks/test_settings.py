"""Settings come from the environment when they are asked for, and a wrong one is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import ParameterError
from tasks.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "TRACKING_URI", "EXPERIMENT", "DEVICE", "THREADS", "PROCESSES"):
        monkeypatch.delenv(f"QUARTET_{name}", raising=False)


def test_settings_default_to_a_hidden_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.root == tmp_path / ".quartet"
    assert settings.store == tmp_path / ".quartet" / "store"
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/.quartet/mlflow.db"
    assert settings.artifact_location == f"file://{tmp_path}/.quartet/mlflow-artifacts"
    assert (settings.experiment, settings.device, settings.threads) == ("quartet", "auto", 0)
    assert not list(tmp_path.iterdir())  # reading creates nothing


def test_settings_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_HOME", "/first")
    before = load_settings()
    monkeypatch.setenv("QUARTET_HOME", "/second")
    assert (before.root, load_settings().root) == (Path("/first"), Path("/second"))


def test_settings_expand_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere/else")
    monkeypatch.setenv("QUARTET_HOME", "~/runs")
    assert load_settings().root == Path("/somewhere/else/runs")


def test_settings_leave_artifacts_to_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:5000")
    settings = load_settings()
    assert settings.mlflow_uri == "http://127.0.0.1:5000"
    assert settings.artifact_location is None


def test_settings_take_an_empty_variable_for_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_HOME", "")
    monkeypatch.setenv("QUARTET_THREADS", "")
    assert load_settings().home == Path(".quartet")
    assert load_settings().threads == 0


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("DEVICE", "gpu", "'auto', 'cpu' or 'cuda'"),
        ("THREADS", "-1", "greater than or equal to 0"),
        ("PROCESSES", "many", "valid integer"),
        ("SHARDING", "zero3", "'replicate', 'full' or 'hybrid'"),
    ],
)
def test_settings_name_the_variable_and_what_is_possible_when_wrong(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(f"QUARTET_{name}", value)
    with pytest.raises(ParameterError) as raised:
        load_settings()
    message = str(raised.value)
    assert f"QUARTET_{name}" in message
    assert repr(value) in message
    assert wanted in message


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"QUARTET_NODES": "2"}, "without QUARTET_RENDEZVOUS"),
        ({"QUARTET_RENDEZVOUS": "10.0.0.1"}, "HOST:PORT"),
        ({"QUARTET_RENDEZVOUS": "http://10.0.0.1:1"}, "HOST:PORT"),
    ],
)
def test_hosts_that_train_together_meet_somewhere(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=words):
        load_settings()


def test_settings_want_processes_that_tensor_parallelism_divides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUARTET_PROCESSES", "4")
    monkeypatch.setenv("QUARTET_TENSOR_PARALLEL", "3")
    with pytest.raises(ParameterError, match="divide QUARTET_PROCESSES, which is 4"):
        load_settings()
    monkeypatch.setenv("QUARTET_TENSOR_PARALLEL", "2")
    assert (load_settings().processes, load_settings().tensor_parallel) == (4, 2)


def test_settings_refuse_a_password_in_an_address_and_do_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUARTET_TRACKING_URI", "https://me:secret@mlflow.example")
    with pytest.raises(ParameterError, match="MLFLOW_TRACKING_PASSWORD") as raised:
        load_settings()
    assert "secret" not in str(raised.value)


def test_settings_say_that_an_address_lacks_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_TRACKING_URI", "localhost:5000")
    with pytest.raises(ParameterError, match=r"begin with http:// .*, as in http://localhost:5000"):
        load_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().threads = 3
