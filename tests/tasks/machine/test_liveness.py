"""A note lives as long as its process, however that ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.machine.liveness import Note, announced, runs_folder
from tasks.settings import load_settings

HOLD = """
import sys, time
from tasks.machine.liveness import announced
from tasks.settings import load_settings
with announced(load_settings(), sys.argv[1], "flow"):
    print("announced", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def note(home: Path) -> Path:
    return home.resolve() / "runs" / "abc.json"


def test_announced_says_who_runs_and_leaves_nothing(note: Path) -> None:
    with announced(load_settings(), "abc", "flow"):
        assert json.loads(note.read_text()) == {
            "flow_run_id": "flow",
            "mlflow_run_id": "abc",
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        assert not Note(note).take()
    assert list(runs_folder(load_settings()).iterdir()) == []


def test_announced_leaves_its_note_after_an_error_for_the_next_reconciliation(note: Path) -> None:
    with pytest.raises(KeyboardInterrupt), announced(load_settings(), "abc", None):
        raise KeyboardInterrupt
    assert Note(note).read()["mlflow_run_id"] == "abc"
    assert Note(note).take()  # nobody holds its lock


def test_announced_leaves_nothing_of_a_suspended_run_that_any_machine_may_resume(
    note: Path,
) -> None:
    with pytest.raises(SystemExit), announced(load_settings(), "abc", None, (SystemExit,)):
        raise SystemExit
    assert not note.exists()


def test_a_killed_process_leaves_its_note_and_frees_the_lock(note: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, "abc"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"announced\n"
    assert not Note(note).take()  # it lives
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    left = Note(note)
    assert left.take()
    assert left.read()["pid"] == process.pid
    left.let_go()


def test_the_next_attempt_takes_over_what_a_killed_one_left(note: Path) -> None:
    left = Note(note)
    assert left.take()
    left.write({"pid": 1})
    left.let_go(keep=True)
    with announced(load_settings(), "abc", "flow"):
        assert Note(note).read()["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", '{"pid": 1', "[]", "\x00\x00"])
def test_a_torn_note_says_nothing(note: Path, text: str) -> None:
    note.parent.mkdir()
    note.write_text(text)
    assert Note(note).read() == {}
