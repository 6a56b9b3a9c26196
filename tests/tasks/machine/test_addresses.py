"""The note of `quartet up`: who holds a home folder, and what other terminals use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import QuartetError
from tasks.machine.addresses import (
    UpNote,
    addresses,
    one_at_a_time,
    running_up,
    use_running_servers,
)
from tasks.machine.password import home_password
from tasks.settings import Settings, load_settings

PREFECT, MLFLOW = "http://127.0.0.1:4299", "http://127.0.0.1:5299"


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, and an environment that names no server."""
    for name in ("PREFECT_API_URL", "QUARTET_TRACKING_URI", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")  # so that what is set in the test goes away after it
        monkeypatch.delenv(name)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUARTET_HOME", str(tmp_path))
    return tmp_path


def test_one_at_a_time_refuses_a_second_and_says_who_holds_the_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    program = (
        "import sys, pathlib\n"
        "from tasks.machine.addresses import UpNote, one_at_a_time\n"
        "from tasks.settings import Settings\n"
        "note = UpNote(pid=2, prefect='', mlflow='')\n"
        "with one_at_a_time(Settings(home=pathlib.Path(sys.argv[1])), note): pass\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    with one_at_a_time(settings, UpNote(pid=77, prefect="http://127.0.0.1:4299", mlflow="")):
        second = subprocess.run(words, capture_output=True, text=True)
    assert second.returncode == 1
    assert "process 77" in second.stderr
    assert "http://127.0.0.1:4299" in second.stderr
    assert "QUARTET_HOME" in second.stderr
    assert subprocess.run(words, capture_output=True, text=True).returncode == 0


def test_commands_use_the_servers_of_a_running_up_with_its_password(clean: Path) -> None:
    note = UpNote(pid=1, prefect=PREFECT, mlflow=MLFLOW, closed=[PREFECT, MLFLOW])
    password = home_password(clean)
    with one_at_a_time(load_settings(), note):
        use_running_servers(load_settings())
        assert addresses(load_settings()) == (f"{PREFECT}/api", MLFLOW)
        assert os.environ["PREFECT_API_AUTH_STRING"] == f"admin:{password}"
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "admin"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == password


def test_home_password_goes_to_no_server_but_its_own(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home_password(clean)
    monkeypatch.setenv("PREFECT_API_URL", "https://team.example/api")
    monkeypatch.setenv("QUARTET_TRACKING_URI", MLFLOW)
    with one_at_a_time(load_settings(), UpNote(pid=1, prefect=PREFECT, mlflow=MLFLOW)):
        use_running_servers(load_settings())  # MLflow was found, not started
    closed = UpNote(pid=1, prefect=PREFECT, mlflow="http://127.0.0.1:1", closed=[PREFECT])
    with one_at_a_time(load_settings(), closed):
        use_running_servers(load_settings())
    assert os.environ["PREFECT_API_URL"] == "https://team.example/api"
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


def test_nothing_is_used_where_up_has_ended_or_its_note_is_torn(clean: Path) -> None:
    settings = load_settings()
    assert running_up(settings) is None
    with one_at_a_time(settings, UpNote(pid=1, prefect=PREFECT, mlflow=MLFLOW)):
        (clean / "up.json").write_bytes(b"\x00" * 40)
        assert running_up(settings) is None
        with (
            pytest.raises(QuartetError, match="note cannot be read"),
            one_at_a_time(settings, UpNote(pid=2, prefect="", mlflow="")),
        ):
            pass
    use_running_servers(settings)
    assert "PREFECT_API_URL" not in os.environ
    assert not (clean / "up.json").exists()
