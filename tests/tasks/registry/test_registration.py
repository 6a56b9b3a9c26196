"""Registration failed or killed at each of its requests, and finished by whatever comes next."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest

from tasks.registry import registration
from tasks.registry.registration import (
    finish_registrations,
    make_missed_registrations,
    register,
)
from tasks.registry.versions import UNFINISHED, ModelVersion
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.promotion.cut_off import Killed, Requests
from tests.tasks.promotion_models import PIPELINE, publish

slow = pytest.mark.slow


@pytest.fixture
def mlflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    requests = Requests(Tracker(load_settings()).client)
    monkeypatch.setattr(Tracker, "client", property(lambda _: requests))
    return requests


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    events: list[Any] = []
    monkeypatch.setattr(registration, "emit", lambda *event: events.append(event))
    return events


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("killed", "run"),
        pytest.param("killed", "sync", marks=slow),
        pytest.param("refused", "run", marks=slow),
        pytest.param("unanswered", "run", marks=slow),
    ],
)
def test_registration_cut_off_at_each_request_is_finished_by_the_next(
    mlflow: Requests, said: list[Any], model: Path, kind: str, first: str
) -> None:
    for at in itertools.count(0 if kind == "killed" else 1):
        digest = f"{at:064x}"
        ref = publish("sft", digest, model)
        pipeline = PIPELINE.model_copy(update={"preset": f"toy{at}"})
        mlflow.cut_off(kind, at)
        with contextlib.suppress(Killed):
            register(ref, pipeline)
        was_cut_off = mlflow.was_cut_off
        mlflow.go_on()
        if not was_cut_off:
            assert at > 10
            return
        if first == "sync":
            finish_registrations(load_settings())
        register(ref, pipeline)
        (found,) = mlflow.search_model_versions(f"name = 'toy{at}-sft'")
        assert UNFINISHED not in found.tags, at
        assert found.tags["quartet.digest"] == digest
        assert found.description.startswith("Supervised fine-tuning\n")
        assert mlflow.get_registered_model(found.name).aliases == {"challenger": 1}
        logged = mlflow.search_logged_models(
            [Tracker(load_settings()).experiment_id], filter_string=f"name = '{found.name}'"
        )
        assert len(logged) == 1
        assert {event[2]["digest"] for event in said} >= {digest}


def test_version_killed_before_its_alias_can_be_named_by_it(
    mlflow: Requests, said: list[Any], model: Path
) -> None:
    """A name alone may mean the challenger, so who uses it finishes the registration first."""
    mlflow.cut_off("killed", 0, "set_registered_model_alias")
    with pytest.raises(Killed):
        register(publish("sft", "a" * 64, model), PIPELINE)
    mlflow.go_on()
    assert finish_registrations(load_settings(), "another") == []
    (sentence,) = finish_registrations(load_settings(), "quickstart-sft")
    assert sentence.startswith("models:/quickstart-sft/1: ")
    assert mlflow.get_registered_model("quickstart-sft").aliases == {"challenger": 1}


def test_registrations_are_finished_beside_foreign_models_of_any_name(
    mlflow: Requests, said: list[Any], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bob's model", 'say "hi"', "C\\", "a = 'b'"):
        mlflow.create_registered_model(name)
    mlflow.cut_off("killed", 0, "set_registered_model_alias")
    with pytest.raises(Killed):
        register(publish("sft", "a" * 64, model), PIPELINE)
    mlflow.go_on()
    (sentence,) = finish_registrations(load_settings())
    assert sentence.startswith("models:/quickstart-sft/1: ")
    assert "MLflow failed" not in caplog.text


def test_card_waits_for_the_machine_that_has_the_stage(
    mlflow: Requests, said: list[Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.cut_off("killed", 0, "set_registered_model_alias")
    with pytest.raises(Killed):
        register(publish("sft", "a" * 64, model), PIPELINE)
    mlflow.go_on()
    with monkeypatch.context() as patch:
        patch.setenv("QUARTET_HOME", str(tmp_path / "other"))
        (sentence,) = finish_registrations(load_settings())
    assert "its model card cannot be written here" in sentence
    assert mlflow.get_registered_model("quickstart-sft").aliases == {"challenger": 1}
    (sentence,) = finish_registrations(load_settings())
    assert "is written" in sentence
    assert len(said) == 1


def test_challenger_is_the_newest_though_an_older_one_is_registered_at_the_same_time(
    mlflow: Requests, said: list[Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer version comes between the older one's look and its alias."""
    real = mlflow.client.set_registered_model_alias
    newer = iter(["b" * 64])

    def set_alias(name: str, alias: str, version: str) -> None:
        for digest in newer:
            register(publish("sft", digest, model), PIPELINE)
        real(name, alias, version)

    monkeypatch.setattr(mlflow.client, "set_registered_model_alias", set_alias)
    register(publish("sft", "a" * 64, model), PIPELINE)
    assert mlflow.get_registered_model("quickstart-sft").aliases == {"challenger": 2}


def test_registration_missed_in_an_outage_is_made_by_sync(
    mlflow: Requests, said: list[Any], model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = publish("sft", "c" * 64, model)

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("the server does not answer")

    with monkeypatch.context() as outage:
        outage.setattr(Tracker, "require", away)
        register(ref, PIPELINE)
    assert not mlflow.search_model_versions()
    (note,) = (home / "unregistered").iterdir()
    (sentence,) = make_missed_registrations(load_settings())
    assert "registered as" in sentence
    (found,) = mlflow.search_model_versions()
    assert found.tags["quartet.digest"] == ref.digest
    assert not note.exists()
    note.write_bytes(b"\0" * 40)
    assert make_missed_registrations(load_settings()) == []  # a damaged note is a warning


def test_version_is_named_in_the_report_of_each_run_that_has_it(
    mlflow: Requests, said: list[Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[tuple[str, str]] = []

    class Report:
        """Stands in for the flow run's."""

        def add_model(self, uri: str, address: str) -> None:
            named.append((uri, address))

    monkeypatch.setattr(registration, "overview", Report)
    ref = publish("ppo", "a" * 64, model)
    for _ in range(2):  # registered, then there already
        register(ref, PIPELINE)
    assert named == [("models:/quickstart-policy/1", "")] * 2  # no server, no page
    version = ModelVersion(name="a b", version="3", source="", tags={})
    assert version.page == "#/models/a%20b/versions/3"
