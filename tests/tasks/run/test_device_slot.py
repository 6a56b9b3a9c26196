"""Trainings that want one device, in processes of their own, on a real Prefect server."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.run import device_slot
from tasks.run.device_slot import limit_name, training_slot
from tasks.settings import load_settings
from tests.ports import free_port

TRAIN = """
import sys
from prefect import flow
from tasks.run.device_slot import training_slot
from tasks.settings import load_settings

@flow(flow_run_name=sys.argv[2])
def train():
    with training_slot(load_settings(), sys.argv[1], "ppo"):
        print("training", flush=True)
        if sys.argv[3] == "hang":
            import time
            time.sleep(120)

train()
"""
PATIENCE_SECONDS = 60


@pytest.fixture
def device(prefect_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A device of this test's own, so that the tests do not wait for each other."""
    name = f"d{abs(hash(request.node.nodeid)) % 10**8}"
    yield name
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(limit_name(name))


@pytest.fixture
def start(
    home: Path, device: str, prefect_server: str, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a training in a process of its own; its log goes to `<name>.log`."""
    running = []

    def begin(name: str, how: str = "hang") -> subprocess.Popen[str]:
        with (tmp_path / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", TRAIN, device, name, how],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PREFECT_API_URL": prefect_server},
            )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def slots(device: str) -> int:
    """How many are taken, as Prefect counts them."""
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(limit_name(device)).active_slots


def training(process: subprocess.Popen[str]) -> bool:
    """Wait until a process trains."""
    assert process.stdout is not None
    return process.stdout.readline() == "training\n"


def wait_for_line(path: Path, words: str) -> str:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for line in path.read_text().splitlines():
            if words in line:
                return line
        time.sleep(0.1)
    raise AssertionError(f"no {words!r} in {path.read_text()}")


@flow
def train(device: str, error: BaseException | None = None, devices: int = 1) -> int:
    """Train in this process, and tell how many slots were taken."""
    with training_slot(load_settings(), device, "toy", devices=devices):
        if error is not None:
            raise error
        return slots(device)


def leftovers(home: Path, device: str) -> list[str]:
    folder = home.resolve() / "slots" / device
    return sorted(path.name for path in folder.iterdir() if path.name != "door.lock")


def test_outside_a_prefect_run_nothing_happens(home: Path) -> None:
    with training_slot(load_settings(), "cpu", "toy"):
        pass
    assert not (home / "slots").exists()


def test_the_limit_is_made_and_its_slot_held_only_during_the_training(
    home: Path, device: str
) -> None:
    assert train(device) == 1
    assert slots(device) == 0
    assert leftovers(home, device) == []
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(
            f"quartet-{socket.gethostname()}-{device}"
        )
    assert (limit.limit, limit.active) == (1, True)


def test_several_devices_are_several_slots_or_all_there_are(home: Path, device: str) -> None:
    assert train(device, devices=4) == 4
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(limit_name(device)).limit == 4
        limit = GlobalConcurrencyLimitUpdate(limit=2)
        client.update_global_concurrency_limit(limit_name(device), limit)
    assert train(device, devices=4) == 2
    assert slots(device) == 0
    assert leftovers(home, device) == []


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_the_slot_is_free_at_once_after_any_error(
    home: Path, device: str, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        train(device, error)
    assert slots(device) == 0
    assert leftovers(home, device) == []


def test_a_limit_that_somebody_changed_is_left_alone(home: Path, device: str) -> None:
    train(device)
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(
            limit_name(device), GlobalConcurrencyLimitUpdate(limit=2)
        )
        train(device)
        assert client.read_global_concurrency_limit_by_name(limit_name(device)).limit == 2


def test_the_second_waits_and_says_for_whom(
    start: Callable[..., subprocess.Popen[str]], device: str, tmp_path: Path, home: Path
) -> None:
    first = start("brown-fox")
    assert training(first)
    second = start("lazy-dog", "end")
    line = wait_for_line(tmp_path / "lazy-dog.log", "waiting")
    assert f"another run trains on {device} of {socket.gethostname()}: brown-fox (ppo, " in line
    assert second.poll() is None
    first.send_signal(signal.SIGTERM)
    assert training(second)
    assert second.wait(PATIENCE_SECONDS) == 0
    assert first.wait(PATIENCE_SECONDS) != 0
    assert slots(device) == 0
    assert leftovers(home, device) == []
    assert (tmp_path / "lazy-dog.log").read_text().count("another run trains") == 1


def test_a_waiting_run_can_be_stopped(
    start: Callable[..., subprocess.Popen[str]], device: str, tmp_path: Path, home: Path
) -> None:
    first = start("brown-fox")
    assert training(first)
    second = start("lazy-dog")
    wait_for_line(tmp_path / "lazy-dog.log", "waiting")
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) != 0
    first.send_signal(signal.SIGTERM)
    first.wait(15)
    assert slots(device) == 0
    assert leftovers(home, device) == []


def test_the_slot_of_a_killed_run_goes_to_the_next_one(
    start: Callable[..., subprocess.Popen[str]], device: str, home: Path
) -> None:
    killed = start("brown-fox")
    assert training(killed)
    killed.kill()
    killed.wait(10)
    assert slots(device) == 1  # Prefect knows nothing of it
    assert train(device) == 1
    assert slots(device) == 0
    assert leftovers(home, device) == []


def test_a_slot_that_a_restarted_server_has_forgotten_is_freed(
    start: Callable[..., subprocess.Popen[str]], device: str, home: Path
) -> None:
    killed = start("brown-fox")
    assert training(killed)
    killed.kill()
    killed.wait(10)
    note = next((home.resolve() / "slots" / device).glob("*.json"))
    lease = note.read_text().partition('"lease_id": "')[2][:36]
    with get_client(sync_client=True) as client:  # the lease is gone, its slot still counted
        client.release_concurrency_slots_with_lease(lease)  # type: ignore[arg-type]
        client.update_global_concurrency_limit(
            limit_name(device), GlobalConcurrencyLimitUpdate(active_slots=1)
        )
    assert train(device) == 1
    assert slots(device) == 0


def test_a_lease_that_is_lost_is_asked_for_again(
    home: Path, device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device_slot, "RENEW_SECONDS", 0.5)

    @flow
    def lose() -> None:
        with training_slot(load_settings(), device, "toy"):
            note = next((home.resolve() / "slots" / device).glob("*.json"))
            before = note.read_text().partition('"lease_id": "')[2][:36]
            with get_client(sync_client=True) as client:
                client.release_concurrency_slots_with_lease(before)  # type: ignore[arg-type]
            until = time.monotonic() + PATIENCE_SECONDS
            while before in note.read_text() or slots(device) != 1:
                assert time.monotonic() < until
                time.sleep(0.1)

    with caplog.at_level(logging.WARNING):
        lose()
    assert "does not renew the slot" in caplog.text
    assert slots(device) == 0


def test_training_goes_on_where_the_api_is_gone(
    home: Path,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)  # takes calls, answers none
    silent = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    closed = f"http://127.0.0.1:{free_port()}/api"
    reached = []

    @flow
    def cut_off() -> None:
        for address in (closed, silent):
            started = time.monotonic()
            with (
                temporary_settings({PREFECT_API_URL: address}),
                training_slot(load_settings(), device, "toy"),
            ):
                reached.append(address)
            assert time.monotonic() - started < PATIENCE_SECONDS / 2

    with listener, caplog.at_level(logging.WARNING):
        cut_off()
    assert reached == [closed, silent]
    assert caplog.text.count("training continues without one") == 2
