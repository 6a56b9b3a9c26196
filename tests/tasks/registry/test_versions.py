"""Registered models: plain files, once for each digest, named so that the stage is found again."""

import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError, StoreError
from tasks.registry import registration as registry
from tasks.registry import verdicts
from tasks.registry.registration import finish_registrations, register
from tasks.registry.versions import (
    ModelVersion,
    download,
    find_version,
    is_registered,
)
from tasks.results.store import Manifest, StageRef, Store, list_files, write_manifest
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking import outages
from tasks.tracking.client import Tracker
from tests.ports import free_port

PIPELINE = PipelineRun(name="toy-1", preset="hh-rlhf", seed=0, run_id="")
Publish = Callable[..., StageRef]


@pytest.fixture
def publish(home: Path) -> Publish:
    """Publish a stage with a model folder, and a run that made it."""

    def make(stage: str, digest: str) -> StageRef:
        store = Store(load_settings().store)
        run_id = Tracker(load_settings()).start_run(stage, parameters={}, tags={})
        out = store.writing(stage, digest)
        (out / "model").mkdir()
        (out / "model" / "config.json").write_text(digest)
        (out / "samples.jsonl").write_text("{}\n")
        manifest = Manifest(
            stage=stage, digest=digest, seed=0, parameters={}, inputs={"base": "b" * 64},
            libraries={}, code="", run_id=run_id, seconds=0.0, metrics={}, files=list_files(out),
        )  # fmt: skip
        write_manifest(out, manifest)
        store.publish(out, stage, digest)
        return StageRef(stage=stage, digest=digest, run_id=run_id)

    return make


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The events that were emitted."""
    events: list[Any] = []
    monkeypatch.setattr(registry, "emit", lambda *event: events.append(event))
    return events


@pytest.mark.parametrize(
    ("version", "digest", "other", "same"),
    [
        ("1", "a", "a", True),  # itself
        ("2", "a", "a", True),  # registered twice
        ("2", "a", "b", False),
        ("2", "", "", False),  # two from elsewhere, of which nothing is known
        ("1", "", "", True),
    ],
)
def test_versions_are_one_model_by_digest_or_number(
    version: str, digest: str, other: str, same: bool
) -> None:
    def made(number: str, digest: str) -> ModelVersion:
        tags = {"quartet.stage": "ppo", "quartet.digest": digest * 64} if digest else {}
        return ModelVersion(name="toy", version=number, source="", tags=tags)

    assert made(version, digest).is_same_model(made("1", other)) is same


def version(name: str) -> ModelVersion:
    return find_version(Tracker(load_settings()), name)


def test_register_adds_a_version_that_names_its_stage(publish: Publish, said: list[Any]) -> None:
    ref = publish("sft", "a" * 64)
    register(ref, PIPELINE)
    found = version("models:/hh-rlhf-sft@challenger")
    assert found == version("models:/hh-rlhf-sft/1")
    assert found.published == ("sft", "a" * 64)
    assert found.tags["quartet.run"] == ref.run_id
    assert found.tags["input.base"] == "b" * 64
    payload = {
        "name": "hh-rlhf-sft",
        "version": "1",
        "uri": "models:/hh-rlhf-sft/1",
        "role": "sft",
        "stage": "sft",
        "digest": "a" * 64,
        "preset": "hh-rlhf",
    }
    assert said == [("quartet.model.registered", "quartet.model.hh-rlhf-sft", payload)]


def test_register_logs_the_models_folder_and_its_card_and_nothing_else(
    publish: Publish, tmp_path: Path
) -> None:
    register(publish("sft", "a" * 64), PIPELINE)
    (tmp_path / "down").mkdir()
    wanted = version("models:/hh-rlhf-sft/1")
    folder = download(Tracker(load_settings()), wanted, tmp_path / "down")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json"]
    assert (folder / "README.md").read_text().startswith("---\nlicense: unknown\n")
    described = Tracker(load_settings()).client.get_model_version("hh-rlhf-sft", "1").description
    assert described.startswith("Supervised fine-tuning\n")
    assert (folder / "config.json").read_text() == "a" * 64


def test_register_knows_the_role_judge(publish: Publish) -> None:
    register(publish("judge", "a" * 64), PIPELINE)
    assert version("models:/hh-rlhf-judge@challenger").tags["quartet.role"] == "judge"


def test_register_goes_on_without_a_card_that_cannot_be_written(
    publish: Publish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(verdicts, "write_card", fail)
    with caplog.at_level(logging.WARNING):
        register(publish("sft", "a" * 64), PIPELINE)
    assert "MLflow failed at the model card of models:/hh-rlhf-sft/1" in caplog.text
    assert version("models:/hh-rlhf-sft@challenger").published == ("sft", "a" * 64)


def test_register_does_nothing_the_second_time(publish: Publish, said: list[Any]) -> None:
    first, second = publish("sft", "a" * 64), publish("sft", "c" * 64)
    for ref in (first, second, first):
        register(ref, PIPELINE)
    assert [payload["version"] for _, _, payload in said] == ["1", "2"]
    assert version("models:/hh-rlhf-sft@challenger").published == ("sft", "c" * 64)
    with pytest.raises(ModelError):
        version("models:/hh-rlhf-sft/3")


def test_register_keeps_roles_and_presets_apart(publish: Publish) -> None:
    ref = publish("ppo", "a" * 64)
    register(ref, PIPELINE)
    register(ref, PIPELINE.model_copy(update={"preset": "my/own: preset"}))
    assert version("models:/hh-rlhf-policy/1").published == ("ppo", "a" * 64)
    assert version("models:/my-own--preset-policy/1").published == ("ppo", "a" * 64)


def test_register_refuses_a_damaged_stage(publish: Publish, said: list[Any]) -> None:
    ref = publish("sft", "a" * 64)
    (Store(load_settings().store).folder("sft", ref.digest) / "model/config.json").write_text("x")
    with pytest.raises(StoreError, match=r"config\.json is damaged"):
        register(ref, PIPELINE)
    assert said == []


def test_register_only_warns_when_the_server_is_away(
    publish: Publish, said: list[Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    ref = publish("sft", "a" * 64)
    monkeypatch.setenv("QUARTET_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with caplog.at_level(logging.WARNING):
        register(ref, PIPELINE)
    assert "MLflow failed at the registration of hh-rlhf-sft" in caplog.text
    assert said == []


def test_register_leaves_no_half_model_when_the_upload_fails(
    publish: Publish, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    ref = publish("sft", "a" * 64)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk of the server is full")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", fail)
        register(ref, PIPELINE)
    tracker = Tracker(load_settings())
    assert list(tracker.client.search_logged_models([tracker.experiment_id])) == []
    assert said == []
    register(ref, PIPELINE)
    assert version("models:/hh-rlhf-sft/1").published == ("sft", "a" * 64)


def cut_off(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> StageRef:
    """A registration that is killed between the version and its alias."""
    from mlflow.tracking import MlflowClient

    def kill(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    ref = publish("sft", "a" * 64)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", kill)
        with pytest.raises(KeyboardInterrupt):
            register(ref, PIPELINE)
    with pytest.raises(ModelError):
        version("models:/hh-rlhf-sft@challenger")
    return ref


def described(number: str) -> str:
    client = Tracker(load_settings()).client
    return str(client.get_model_version("hh-rlhf-sft", number).description)


def test_register_finishes_what_a_kill_cut_off(
    publish: Publish, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = cut_off(publish, monkeypatch)
    for _ in range(2):
        register(ref, PIPELINE)
    found = version("models:/hh-rlhf-sft@challenger")
    assert (found.version, found.published) == ("1", ("sft", ref.digest))
    assert registry.UNFINISHED not in found.tags
    assert described("1").startswith("Supervised fine-tuning\n")
    assert len(said) == 1


def test_sync_finishes_what_a_kill_cut_off_and_leaves_the_newest_its_alias(
    publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(publish, monkeypatch)
    register(publish("sft", "c" * 64), PIPELINE)
    (sentence,) = finish_registrations(load_settings())
    assert sentence.startswith("models:/hh-rlhf-sft/1: ")
    assert version("models:/hh-rlhf-sft@challenger").version == "2"
    assert described("1").startswith("Supervised fine-tuning\n")
    assert finish_registrations(load_settings()) == []


@pytest.mark.parametrize(
    "name", ["models:/nope@champion", "models:/hh-rlhf-sft@nope", "models:/hh-rlhf-sft/7"]
)
def test_find_version_says_which_name_mlflow_does_not_have(publish: Publish, name: str) -> None:
    register(publish("sft", "a" * 64), PIPELINE)
    with pytest.raises(ModelError, match="does not give") as raised:
        version(name)
    named = "the registered model 'nope'" if "/nope" in name else repr(name)
    assert f"does not give {named}" in str(raised.value)


def test_name_alone_is_the_champion_else_the_challenger(publish: Publish) -> None:
    for digest in ("a" * 64, "b" * 64):
        register(publish("sft", digest), PIPELINE)
    client = Tracker(load_settings()).client
    for name in ("hh-rlhf-sft", "models:/hh-rlhf-sft"):
        assert version(name).version == "2"
    client.set_registered_model_alias("hh-rlhf-sft", "champion", "1")
    assert version("hh-rlhf-sft").version == "1"
    for alias in ("champion", "challenger"):
        client.delete_registered_model_alias("hh-rlhf-sft", alias)
    client.set_model_version_tag("hh-rlhf-sft", "2", "verdict", "rejected, gold -0.1")
    wanted = (
        r"hh-rlhf-sft has neither a champion nor a challenger \(version 2: rejected, gold -0\.1; "
        r"version 1: no verdict\); name a version, such as models:/hh-rlhf-sft/2"
    )
    with pytest.raises(ModelError, match=wanted):
        version("hh-rlhf-sft")


def test_name_is_registered_only_if_mlflow_has_it(
    publish: Publish, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(publish("sft", "a" * 64), PIPELINE)
    assert is_registered("hh-rlhf-sft")
    for name in ("hh-rlhf", "hh-rlhf-sft@champion", "org/hh-rlhf-sft", "it's", ""):
        assert not is_registered(name)
    with monkeypatch.context() as patch:  # nothing is made only to see that there is nothing
        patch.setenv("QUARTET_HOME", str(tmp_path / "new"))
        assert not is_registered("hh-rlhf-sft")
        with pytest.raises(ModelError, match=r"there is none in .*new yet; run a pipeline"):
            version("hh-rlhf-sft")
        assert not (tmp_path / "new" / "mlflow.db").exists()
    monkeypatch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:9")  # nobody
    assert not is_registered("hh-rlhf-sft")


@pytest.mark.parametrize("name", ["models:/a/b/c", "models:x@y", "a/b", "it's"])
def test_find_version_refuses_a_name_of_another_form(home: Path, name: str) -> None:
    with pytest.raises(ModelError, match="wanted NAME, models:/NAME@ALIAS"):
        version(name)


@pytest.fixture
def mlflow_server(home: Path, tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on loopback that keeps the artifacts itself."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
            "--artifacts-destination", str(tmp_path / "artifacts"),
        ],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=1):
                    break
            except OSError:
                assert process.poll() is None, "the MLflow server ended"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_register_and_download_work_with_a_server(
    mlflow_server: str, publish: Publish, said: list[Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("QUARTET_TRACKING_URI", mlflow_server)
    ref = publish("reward", "a" * 64)
    for _ in range(2):
        register(ref, PIPELINE)
    assert len(said) == 1
    found = version("models:/hh-rlhf-reward@challenger")
    assert (found.uri, found.published) == ("models:/hh-rlhf-reward/1", ("reward", "a" * 64))
    (tmp_path / "down").mkdir()
    folder = download(Tracker(load_settings()), found, tmp_path / "down")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json"]


def test_busy_server_is_waited_for_where_nothing_else_is_to_be_done(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.3)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    monkeypatch.setattr(outages, "PROBE_SECONDS", 0.05)
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        tracker = Tracker(load_settings())
        with pytest.raises(ConnectionError, match="does not answer"):
            tracker.require()
        tracker.require(patient=True)
        server.shutdown()


@pytest.mark.parametrize(("stage", "digest"), [("ppo", "zz"), ("../ppo", "a" * 64), ("", "a" * 64)])
def test_damaged_tags_name_no_stage(stage: str, digest: str) -> None:
    tags = {"quartet.stage": stage, "quartet.digest": digest}
    assert ModelVersion(name="toy", version="1", source="", tags=tags).published is None
