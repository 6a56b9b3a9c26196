"""Turns: never two processes at once, whatever a server's delays; dead ones hold nobody up."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import ModelError, QuartetError
from tasks.registry import turns
from tasks.registry.turns import HOLDER, Turn, taking_turns


class SlowServer:
    """The tags of one registered model; each request takes its time before and after it is done."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.tags: dict[str, str] = {}
        self.seconds, self.lock = seconds, threading.Lock()
        self.uri, self.client = "http://slow", self

    def _ask(self, what: Callable[[], Any]) -> Any:
        time.sleep(random.random() * self.seconds)
        with self.lock:
            answer = what()
        time.sleep(random.random() * self.seconds)
        return answer

    def get_registered_model(self, name: str) -> Any:
        return SimpleNamespace(tags=self._ask(lambda: dict(self.tags)))

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self._ask(lambda: self.tags.update({key: value}))

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self._ask(lambda: self.tags.pop(key, None))


def at(home: Path) -> Any:
    return SimpleNamespace(root=home)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(turns, "WAIT_SECONDS", 60.0)


def test_machines_are_never_in_at_once(tmp_path: Path) -> None:
    server: Any = SlowServer(0.004)
    inside: list[int] = []
    done: list[int] = []

    def machine(number: int) -> None:
        for _ in range(6):
            with taking_turns(at(tmp_path / str(number)), server, "toy") as turn:
                inside.append(number)
                turn.extend()
                time.sleep(0.003)
                assert inside == [number]
                inside.remove(number)
            done.append(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(machine, range(4)))
    assert len(done) == 24
    assert server.tags == {}


def test_who_comes_in_the_middle_of_a_turn_waits(tmp_path: Path) -> None:
    server: Any = SlowServer()
    waited = threading.Event()

    def second() -> None:
        with taking_turns(at(tmp_path / "b"), server, "toy"):
            waited.set()

    with taking_turns(at(tmp_path / "a"), server, "toy"):
        other = threading.Thread(target=second)
        other.start()
        assert not waited.wait(0.1)
    other.join(30)
    assert waited.is_set()


def test_who_waits_too_long_is_told_who_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = SlowServer()
    server.tags[f"{HOLDER}.{'0' * 32}"] = "far-away 17 1"
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.02)
    with (
        pytest.raises(ModelError, match="toy are being changed by far-away 17; two changes"),
        taking_turns(at(tmp_path), server, "toy"),
    ):
        pass
    assert list(server.tags) == [f"{HOLDER}.{'0' * 32}"]


def test_dead_process_of_the_same_home_holds_nobody_up(tmp_path: Path) -> None:
    server: Any = SlowServer()
    dead = Turn(server, "toy")
    (tmp_path / "locks").mkdir()
    with taking_turns(at(tmp_path), server, "toy"):
        (mark,) = (tmp_path / "locks").glob("*.mark")
        assert mark.read_text() in server.tags
    dead._write()
    mark.write_text(dead.key)
    with taking_turns(at(tmp_path), server, "toy") as turn:
        assert list(server.tags) == [turn.key]


@pytest.mark.parametrize("alive", [True, False])
def test_mark_of_a_dead_process_is_removed_and_a_live_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    server: Any = SlowServer()
    monkeypatch.setattr(turns, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(turns, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(turns, "WAIT_SECONDS", 1.5)
    holder = Turn(server, "toy")
    holder.take()
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.02):
            holder.extend()

    thread = threading.Thread(target=live)
    if alive:
        thread.start()
    try:
        with taking_turns(at(tmp_path), server, "toy"):
            assert not alive
    except ModelError:
        assert alive
    finally:
        over.set()
        if alive:
            thread.join()


def test_turn_that_took_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = SlowServer()
    monkeypatch.setattr(turns, "HOLD_SECONDS", 0.02)
    turn = Turn(server, "toy")
    turn.take()
    turn.extend()
    time.sleep(0.02)
    with pytest.raises(ModelError, match=r"took more than 0\.01 s for one step .* run it again"):
        turn.extend()


def test_home_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file where a folder should be")
    with (
        pytest.raises(QuartetError, match=r"the lock .* cannot be written .* right to write"),
        taking_turns(at(tmp_path), SlowServer(), "toy"),  # type: ignore[arg-type]
    ):
        pass
