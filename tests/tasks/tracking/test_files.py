"""A home whose runs a server recorded goes on without it, and the server finds what came then."""

import shutil
from pathlib import Path

import mlflow
import pytest

from models.errors import QuartetError
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.tracking.mlflow_server import Server


def test_files_are_found_with_and_without_the_homes_server(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(words: str) -> str:
        folder = tmp_path / words
        folder.mkdir()
        (folder / "said.txt").write_text(words)
        tracker = Tracker(load_settings())
        tracker.check()
        run = tracker.start_run(words, parameters={}, tags={})
        tracker.log_folder(run, folder)
        return run

    def read(run: str) -> str:
        found = Tracker(load_settings()).fetch_file(run, "published/said.txt", tmp_path)
        return found.read_text() if found else ""

    with Server(home, "--artifacts-destination", str(home / "mlflow-artifacts")) as server:
        server.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", server.uri)
        served = record("with a server")
        server.kill()
        monkeypatch.delenv("QUARTET_TRACKING_URI")
        alone = record("without")
        assert read(served) == "with a server"
        assert (
            Tracker(load_settings()).client.get_run(alone).info.artifact_uri.startswith("mlflow-")
        )
        server.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", server.uri)
        assert [read(run) for run in (served, alone)] == ["with a server", "without"]


def test_an_experiment_begun_without_a_server_is_continued_on_its_own_host_alone(
    home: Path, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both hosts began one without a server, in homes at the same path."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(mlflow_template, other / "mlflow.db")
    settings = load_settings()
    elsewhere = mlflow.MlflowClient(tracking_uri=f"sqlite:///{other / 'mlflow.db'}")
    elsewhere.create_experiment(settings.experiment, artifact_location=settings.artifact_location)
    Tracker(settings).check()
    with Server(home) as own:
        own.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", own.uri)
        Tracker(load_settings()).check()
    with Server(other) as theirs:
        theirs.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", theirs.uri)
        for database in (True, False):  # a worker's home has none
            if not database:
                (home / "mlflow.db").unlink()
            with pytest.raises(QuartetError, match="begun without a server"):
                Tracker(load_settings()).check()


@pytest.mark.parametrize("folder", ["shared", "mlflow-artifacts"])
def test_an_experiment_whose_server_keeps_files_on_a_shared_disk_is_used(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    shared = ("--no-serve-artifacts", "--default-artifact-root", str(tmp_path / "disk" / folder))
    (tmp_path / "disk" / folder).mkdir(parents=True)
    with Server(home, *shared) as server:
        server.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", server.uri)
        Tracker(load_settings()).check()


def test_an_experiment_in_a_folder_of_another_host_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(home) as server:
        server.start()
        client = mlflow.MlflowClient(tracking_uri=server.uri)
        name = load_settings().experiment
        client.create_experiment(name, artifact_location="file:///of/another/host/mlflow-artifacts")
        monkeypatch.setenv("QUARTET_TRACKING_URI", server.uri)
        with pytest.raises(QuartetError, match=r"/of/another/host.*begun without a server"):
            Tracker(load_settings()).check()
