"""The server that samples PPO's rollouts: named by settings, its key in a private file only."""

import stat
from pathlib import Path

import pytest

from models.errors import ParameterError
from tasks.run.rollout_server import rollout_server

SECRET = "a-key-for-the-tests"


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_HOME", str(tmp_path))
    monkeypatch.setenv("QUARTET_ROLLOUT_SERVER", "http://127.0.0.1:8000/v1/")
    for name in ("KEY", "REQUESTS", "WEIGHTS", "FOLDER"):
        monkeypatch.delenv(f"QUARTET_ROLLOUT_{name}", raising=False)


def test_server_is_what_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_ROLLOUT_KEY", f" {SECRET}\n")
    monkeypatch.setenv("QUARTET_ROLLOUT_REQUESTS", "64")
    with rollout_server(wanted=True) as server:
        assert server is not None
        assert (server.url, server.requests) == ("http://127.0.0.1:8000", 64)
        assert server.folder.parent == tmp_path / "rollouts"
        assert server.key_file is not None
        assert server.key_file.read_text() == SECRET
        assert stat.S_IMODE(server.key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert SECRET not in server.model_dump_json()
    assert not list((tmp_path / "rollouts").iterdir())


def test_folder_may_lie_elsewhere_and_a_key_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_ROLLOUT_FOLDER", str(tmp_path / "shared"))
    with rollout_server(wanted=True) as server:
        assert server is not None
        assert server.folder.parent == tmp_path / "shared"
        assert server.key_file is None


def test_nothing_is_read_or_made_where_none_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_ROLLOUT_KEY", "two words")
    with rollout_server(wanted=False) as server:
        assert server is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVER", "", "names none"),
        ("SERVER", "ftp://host", "http"),
        ("SERVER", "host:8000", "http"),
        ("SERVER", "http://me:secret@host:8000", "QUARTET_ROLLOUT_KEY"),
        ("KEY", "secret with spaces", "holds no key"),
        ("KEY", "secret-é", "holds no key"),
        ("FOLDER", "/dev/null/x", "cannot be written"),
        ("REQUESTS", "0", "greater than or equal to 1"),
        ("WEIGHTS", "mail", "folder"),
    ],
)
def test_a_setting_that_means_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"QUARTET_ROLLOUT_{name}", value)
    with pytest.raises(ParameterError) as caught, rollout_server(wanted=True):
        pass
    assert said in str(caught.value)
    assert f"QUARTET_ROLLOUT_{name}" in str(caught.value)
    assert "secret" not in str(caught.value)
