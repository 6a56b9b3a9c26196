"""Promotion and rollback failed or killed at every request, then repeated as advised.

The comparison is left out, so a challenger always wins. The registry is one in memory, and once,
slowly, MLflow's own on SQLite.
"""

import itertools
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import ModelError
from models.evaluation.result import Outcome
from models.language.config import SamplingConfig
from tasks.judging.config import EvaluationConfig
from tasks.promotion import promotion
from tasks.promotion import rollback as rollback_module
from tasks.promotion.promotion import promote
from tasks.promotion.rollback import rollback
from tasks.registry import turns
from tasks.registry.aliases import (
    JOURNAL,
    PREVIOUS,
    Journal,
    changing_aliases,
    repair_all_aliases,
)
from tasks.registry.registration import finish_registrations
from tasks.registry.turns import HOLDER
from tasks.registry.versions import CHAMPION, PROMOTION, ROLLBACK, UNFINISHED, find_version
from tasks.results.store import StageRef
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.promotion.cut_off import Killed, MemoryRegistry, Requests
from tests.tasks.promotion_models import PIPELINE, publish

EVIDENCE = StageRef(stage="promotion", digest="e" * 64)
OPPONENT = StageRef(stage="sft", digest="5f" * 32)
KINDS = ("killed", "refused", "unanswered")


@pytest.fixture
def mlflow(request: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    sqlite = getattr(request, "param", "") == "SQLite"
    client = Tracker(load_settings()).client if sqlite else MemoryRegistry()
    requests = Requests(client)
    monkeypatch.setattr(Tracker, "client", property(lambda _: requests))
    opponent = SimpleNamespace(opponent=OPPONENT)
    outcome = Outcome(word="accepted", accepted=True, reasons=["It is better."])
    monkeypatch.setattr(promotion, "find_contest", lambda *args, **kwargs: opponent)
    monkeypatch.setattr(promotion, "judge_challenger", lambda *args, **kwargs: EVIDENCE)
    monkeypatch.setattr(promotion, "published_outcome", lambda evidence: (outcome, None))
    return requests


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    for module in (promotion, rollback_module):
        monkeypatch.setattr(module, "emit", lambda event, *_: said.append(event))
    return said


class Registry:
    """Registered models of two versions, each in a state to start from."""

    def __init__(self, mlflow: Requests, tmp_path: Path) -> None:
        self.mlflow, self.name = mlflow, ""
        model = tmp_path / "model"
        model.mkdir()
        (model / "config.json").write_text("{}")
        for version in ("1", "2"):
            publish("ppo", version * 64, model)

    def start(self, name: str) -> None:
        self.name = name
        self.mlflow.create_registered_model(name)
        for version in ("1", "2"):
            tags = {"quartet.stage": "ppo", "quartet.digest": version * 64}
            source = f"models:/{self._logged(version)}"
            self.mlflow.create_model_version(name, source, tags=tags)

    def _logged(self, version: str) -> str:
        if isinstance(self.mlflow.client, MemoryRegistry):
            return f"m-{version}"
        tracker = Tracker(load_settings())
        made = tracker.client.create_logged_model(tracker.experiment_id, name="toy")
        return str(made.model_id)

    def promote(self, version: str) -> Any:
        model = f"models:/{self.name}/{version}"
        config, sampling = EvaluationConfig(), SamplingConfig()
        return promote(model, config, sampling, pipeline=PIPELINE, data=lambda: EVIDENCE)

    def rollback(self, to: str = "") -> Any:
        return rollback(self.name, to=to, note="it \x1b[2J\nswears")

    def aliases(self) -> dict[str, str]:
        found = self.mlflow.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in found.items()}

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.mlflow.get_model_version(self.name, version).tags)

    def check_whole(self) -> None:
        """No journal, no mark, nothing unfinished, and cards that say what the tags say."""
        with changing_aliases(load_settings(), Tracker(load_settings()), self.name):
            pass  # removes a mark that could not be taken back
        left = self.mlflow.get_registered_model(self.name).tags
        assert not [key for key in left if key == JOURNAL or key.startswith(HOLDER)]
        for version in ("1", "2"):
            tags = self.tags(version)
            assert UNFINISHED not in tags
            card = self.mlflow.get_model_version(self.name, version).description or ""
            for prefix in (PROMOTION, ROLLBACK):
                if prefix in tags:
                    assert f"{prefix.partition('.')[2]} result: {tags[prefix]}" in card
                    assert tags[f"{prefix}.by"]


@pytest.fixture
def registry(mlflow: Requests, tmp_path: Path) -> Registry:
    return Registry(mlflow, tmp_path)


def each_request(
    registry: Registry, kind: str, begin: Callable[[], Any], act: Callable[[], Any]
) -> Iterator[int]:
    """Let an action be cut off at each of its requests; whoever asks for the next repeats it."""
    mlflow = registry.mlflow
    for at in itertools.count(0 if kind == "killed" else 1):
        registry.start(f"toy-{at}")
        begin()
        mlflow.cut_off(kind, at)
        try:
            act()
        except Killed:
            pass
        except ModelError as error:
            assert "\n" not in str(error)  # noqa: PT017 it may also succeed
        was_cut_off = mlflow.was_cut_off
        mlflow.go_on()
        if not was_cut_off:
            assert at > 15
            return
        yield at


@pytest.mark.parametrize("kind", KINDS)
def test_promotion(registry: Registry, events: list[str], kind: str) -> None:
    def promote_first() -> None:
        registry.promote("1")
        events.clear()

    for at in each_request(registry, kind, promote_first, lambda: registry.promote("2")):
        registry.promote("2")
        assert registry.aliases() == {CHAMPION: "2", PREVIOUS: "1"}, at
        assert registry.tags("2")[PROMOTION] == "promoted"
        assert "quartet.model.promoted" in events
        registry.check_whole()


def promoted_twice(registry: Registry, events: list[str]) -> Callable[[], None]:
    def begin() -> None:
        registry.promote("1")
        registry.promote("2")
        events.clear()

    return begin


@pytest.mark.parametrize(
    ("mlflow", "kind"),
    [*(("", kind) for kind in KINDS), pytest.param("SQLite", "killed", marks=pytest.mark.campaign)],
    indirect=["mlflow"],
)
def test_rollback(registry: Registry, events: list[str], kind: str) -> None:
    begin = promoted_twice(registry, events)
    for at in each_request(registry, kind, begin, registry.rollback):
        registry.rollback()
        assert registry.aliases() == {CHAMPION: "1", PREVIOUS: "2"}, at
        assert registry.tags("1")[ROLLBACK] == "champion again"
        assert registry.tags("2")[ROLLBACK] == "rolled back"
        assert registry.tags("2")[f"{ROLLBACK}.note"] == "it [2J swears"
        assert "quartet.model.rolled-back" in events
        registry.check_whole()


@pytest.fixture
def twice(registry: Registry, events: list[str]) -> Registry:
    """Version 2 is champion and 1 was."""
    registry.start("toy")
    promoted_twice(registry, events)()
    return registry


def test_second_rollback_is_meant_only_if_it_names_the_version(
    twice: Registry, events: list[str]
) -> None:
    assert twice.rollback().result == "rolled back"
    again = twice.rollback()
    assert (again.result, again.champion, again.previous) == ("unchanged", "1", "2")
    assert again.reasons == [
        "version 1 is champion already: nothing to do; to go back to version 2, name it with --to 2"
    ]
    for _ in range(2):
        assert twice.rollback(to="2").champion == "2"
        assert twice.aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert twice.tags("1")[ROLLBACK] == "rolled back"
    assert events == ["quartet.model.rolled-back"] * 2
    with pytest.raises(ModelError, match=r"'7' of toy is neither its champion \(2\) nor .* \(1\)"):
        twice.rollback(to="7")


def test_rollback_that_was_cut_off_is_not_promoted_away(twice: Registry) -> None:
    """The journal is finished before anybody asks whether the challenger was rolled back."""
    twice.mlflow.cut_off("killed", 0, "set_registered_model_alias")
    with pytest.raises(Killed):
        twice.rollback()
    twice.mlflow.go_on()
    assert JOURNAL in twice.mlflow.get_registered_model("toy").tags
    with pytest.raises(
        ModelError, match=r"toy/2 was champion and was rolled back \(it \[2J swears"
    ):
        twice.promote("2")
    assert twice.aliases() == {CHAMPION: "1", PREVIOUS: "2"}


def test_rollback_is_finished_on_another_machine(
    twice: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot know that the first one is dead, so it waits until its mark has not changed."""
    twice.mlflow.cut_off("killed", 1, "set_registered_model_alias")
    with pytest.raises(Killed):
        twice.rollback()
    twice.mlflow.go_on()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlflow.db").touch()  # in its place is the registry of both
    monkeypatch.setenv("QUARTET_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(turns, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.05)
    with pytest.raises(ModelError, match=f"are being changed by {socket.gethostname()} "):
        twice.rollback()
    monkeypatch.setattr(turns, "HOLD_SECONDS", 0.6)
    monkeypatch.setattr(turns, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(turns, "WAIT_SECONDS", 10.0)
    assert twice.rollback().result == "unchanged"
    assert twice.aliases() == {CHAMPION: "1", PREVIOUS: "2"}


def test_rollback_after_a_promotion_that_was_cut_off_is_for_a_person_to_repeat(
    registry: Registry, events: list[str]
) -> None:
    registry.start("toy")
    registry.promote("1")
    registry.mlflow.cut_off("killed", 1, "set_registered_model_alias")
    with pytest.raises(Killed):
        registry.promote("2")
    registry.mlflow.go_on()
    assert registry.aliases()[CHAMPION] == "1"
    with pytest.raises(ModelError, match=r"is version 2 by now and was 1 when .* run it again"):
        registry.rollback()
    assert registry.rollback().champion == "1"


def test_rollback_while_a_challenger_is_compared_is_not_undone(
    twice: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two promotions of one challenger; the first is rolled back before the second is done."""
    twice.rollback(to="1")
    model = f"models:/{twice.name}/2"
    fresh = find_version(Tracker(load_settings()), model)
    stale = replace(fresh, tags={k: v for k, v in fresh.tags.items() if not k.startswith(ROLLBACK)})
    monkeypatch.setattr(promotion, "find_challenger", lambda model: (stale, ""))
    monkeypatch.setattr(promotion, "rolled_back", lambda *args: None)
    with pytest.raises(ModelError, match="was rolled back while it was compared"):
        twice.promote("2")
    assert twice.aliases()[CHAMPION] == "1"


def test_damaged_journal_is_a_sentence(twice: Registry) -> None:
    twice.mlflow.set_registered_model_tag("toy", JOURNAL, '{"what": "a rollba')
    for act in (twice.rollback, lambda: twice.promote("1")):
        with pytest.raises(
            ModelError, match=r"tag quartet.aliases of registered model toy .*damag"
        ):
            act()
    (sentence,) = repair_all_aliases(load_settings())
    assert "delete the tag there" in sentence


def test_sync_finishes_what_was_cut_off(twice: Registry) -> None:
    twice.mlflow.cut_off("killed", 1, "set_registered_model_alias")
    with pytest.raises(Killed):
        twice.rollback()
    twice.mlflow.go_on()
    (first,) = repair_all_aliases(load_settings())
    assert first == "toy: a rollback from version 2 to 1, which was cut off, is finished"
    assert len(finish_registrations(load_settings())) == 2
    assert twice.aliases() == {CHAMPION: "1", PREVIOUS: "2"}
    twice.check_whole()
    assert repair_all_aliases(load_settings()) == finish_registrations(load_settings()) == []


def test_model_that_was_rolled_back_is_the_same_under_another_number(twice: Registry) -> None:
    """Two machines may register one result twice."""
    twice.rollback()
    tags = {"quartet.stage": "ppo", "quartet.digest": "2" * 64}
    twice.mlflow.create_model_version("toy", "models:/m-2", tags=tags)
    with pytest.raises(ModelError, match=r"toy/3 was champion and was rolled back"):
        twice.promote("3")
    assert twice.aliases()[CHAMPION] == "1"


def test_journal_of_a_version_that_was_deleted_is_given_up(twice: Registry) -> None:
    journal = Journal(what="a promotion", aliases={CHAMPION: "9", PREVIOUS: "2"}, tags={})
    twice.mlflow.set_registered_model_tag("toy", JOURNAL, journal.model_dump_json())
    assert repair_all_aliases(load_settings()) == []
    assert twice.aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    twice.check_whole()
