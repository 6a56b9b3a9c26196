"""What the registry says of a policy's evaluation, and who is challenger: also after a kill."""

import contextlib
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.registry import registration
from tasks.registry.aliases import read_aliases
from tasks.registry.registration import finish_registrations, register
from tasks.registry.verdicts import record_verdict
from tasks.registry.versions import ROLLBACK, ROLLED_BACK
from tasks.results.store import MANIFEST, StageRef, Store
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.promotion.cut_off import Killed, MemoryRegistry, Requests
from tests.tasks.promotion_models import NAME, PIPELINE, publish, publish_evaluation

FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture(autouse=True)
def quiet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "emit", lambda *event: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def policy(digest: str) -> StageRef:
    return StageRef(stage="ppo", digest=digest)


def evaluate(policy_digest: str, digest: str, low: float, *, accepted: bool = True) -> None:
    """Evaluate a policy, a second after whatever was evaluated before."""
    publish_evaluation(policy_digest, digest, low, accepted=accepted)
    store = Store(load_settings().store)
    manifests = list(store.root.glob(f"evaluate/*/{MANIFEST}"))
    at = max(path.stat().st_mtime for path in manifests) + 1
    os.utime(store.folder("evaluate", digest) / MANIFEST, (at, at))
    record_verdict(policy(policy_digest))


def version(number: str, name: str = NAME) -> Any:
    return Tracker(load_settings()).client.get_model_version(name, number)


def aliases() -> dict[str, str]:
    return read_aliases(Tracker(load_settings()), NAME)


def test_version_begins_with_its_verdict(model: Path) -> None:
    register(publish("ppo", FIRST, model), PIPELINE)
    assert next(iter(version("1").tags.items())) == ("verdict", "not evaluated yet")
    assert version("1").description.startswith("not evaluated yet\n\nA language model aligned by")
    assert aliases() == {}
    evaluate(FIRST, "a" * 64, 0.1)
    told = "accepted, gold +0.125 [+0.100, +0.150], KL 1.6"
    assert next(iter(version("1").tags.items())) == ("verdict", told)
    assert version("1").tags["verdict.accepted"] == "true"
    assert version("1").tags["verdict.evaluation"] == "a" * 64
    assert version("1").description.startswith(f"{told}\n\nA language model aligned by")
    assert aliases() == {"challenger": "1"}


def test_challenger_is_the_accepted_policy_with_the_surest_gain(model: Path) -> None:
    for digest in (FIRST, SECOND, THIRD):
        register(publish("ppo", digest, model), PIPELINE)
    evaluate(FIRST, "a" * 64, 0.3, accepted=False)
    assert aliases() == {}
    evaluate(SECOND, "b" * 64, 0.2)
    assert aliases() == {"challenger": "2"}
    evaluate(THIRD, "c" * 64, 0.1)
    assert aliases() == {"challenger": "2"}
    evaluate(SECOND, "d" * 64, 0.2, accepted=False)  # evaluated again, on other prompts
    assert version("2").tags["verdict"].startswith("rejected, ")
    assert aliases() == {"challenger": "3"}
    evaluate(THIRD, "e" * 64, -0.1, accepted=False)
    assert aliases() == {}
    evaluate(FIRST, "f" * 64, 0.05)
    assert aliases() == {"challenger": "1"}


def test_policy_that_was_rolled_back_is_no_challenger(model: Path) -> None:
    for digest, low in ((FIRST, 0.1), (SECOND, 0.2)):
        register(publish("ppo", digest, model), PIPELINE)
        evaluate(digest, digest, low)
    assert aliases() == {"challenger": "2"}
    client = Tracker(load_settings()).client
    client.set_model_version_tag(NAME, "2", ROLLBACK, ROLLED_BACK)
    assert finish_registrations(load_settings()) == [f"challenger of {NAME} is version 1"]
    assert aliases() == {"challenger": "1"}


def test_sync_takes_the_alias_from_a_policy_that_an_older_release_gave_it(model: Path) -> None:
    for digest, accepted in ((FIRST, True), (SECOND, False)):
        register(publish("ppo", digest, model), PIPELINE)
        publish_evaluation(digest, digest, 0.1, accepted=accepted)
    client = Tracker(load_settings()).client
    client.set_registered_model_alias(NAME, "challenger", "2")
    first, second, third = finish_registrations(load_settings())
    told = "gold +0.125 [+0.100, +0.150], KL 1.6"
    assert {first, second} == {
        f"models:/{NAME}/1: accepted, {told}",
        f"models:/{NAME}/2: rejected, {told}",
    }
    assert third == f"challenger of {NAME} is version 1"
    assert finish_registrations(load_settings()) == []


def test_newer_verdict_of_another_machine_stays(model: Path) -> None:
    register(publish("ppo", FIRST, model), PIPELINE)
    evaluate(FIRST, "a" * 64, 0.1)
    client = Tracker(load_settings()).client
    for key, value in {"at": "2999-01-01T00:00:00+00:00", "evaluation": "b" * 64}.items():
        client.set_model_version_tag(NAME, "1", f"verdict.{key}", value)
    record_verdict(policy(FIRST))
    assert finish_registrations(load_settings()) == []
    assert version("1").tags["verdict.evaluation"] == "b" * 64


@pytest.mark.parametrize("kind", ["killed", "refused", "unanswered"])
@pytest.mark.parametrize("then", ["run", "sync", "promotion"])
def test_verdict_cut_off_at_each_request_is_finished_by_the_next(
    model: Path, monkeypatch: pytest.MonkeyPatch, kind: str, then: str
) -> None:
    mlflow = Requests(MemoryRegistry())
    monkeypatch.setattr(Tracker, "client", property(lambda _: mlflow))
    publish("ppo", FIRST, model)
    publish("ppo", SECOND, model)
    publish_evaluation(FIRST, "a" * 64, 0.1)
    publish_evaluation(SECOND, "b" * 64, 0.2, accepted=False)
    for at in itertools.count(0 if kind == "killed" else 1):
        name = f"toy-{at}"
        mlflow.models.clear()
        mlflow.create_registered_model(name)
        for digest in (FIRST, SECOND):
            tags = {"quartet.stage": "ppo", "quartet.digest": digest}
            mlflow.create_model_version(name, f"models:/m-{digest[0]}", tags=tags)
        mlflow.set_registered_model_alias(name, "challenger", "2")
        mlflow.cut_off(kind, at)
        with contextlib.suppress(Killed):
            record_verdict(policy(FIRST))
        was_cut_off = mlflow.was_cut_off
        mlflow.go_on()
        if not was_cut_off:
            assert at > 8
            return
        if then == "run":
            record_verdict(policy(FIRST))
        else:
            finish_registrations(load_settings(), name if then == "promotion" else "")
        assert mlflow.get_registered_model(name).aliases == {"challenger": "1"}, at
        assert version("1", name).tags["verdict.evaluation"] == "a" * 64
        finish_registrations(load_settings())  # a card that could not be written is for sync
        for number, word in (("1", "accepted"), ("2", "rejected")):
            assert version(number, name).tags["verdict"].startswith(word)
            assert version(number, name).description.startswith(word)
