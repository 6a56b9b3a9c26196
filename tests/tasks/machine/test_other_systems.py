"""What Linux alone has is done without elsewhere: here it is pretended to be missing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.operation import doctor
from models.language import rendering
from tasks.machine import guardian, lookup, memory
from tasks.settings import Settings
from tasks.tracking import facts

needs_ps = pytest.mark.skipif(shutil.which("ps") is None, reason="no program ps (procps) here")

TREE = "import subprocess, sys, time; subprocess.Popen(['sleep', '300']); time.sleep(300)"

GUARDED = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import guardian
guardian.PROCESSES = Path({nowhere!r})
guardian._prctl = lambda request, value: None
sys.exit(guardian.main(["5", {order!r}, sys.executable, "-c", {tree!r}]))
"""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", TREE])
    _until(lambda: len(guardian.descendants(process.pid)) == 1)
    below = guardian.descendants(process.pid)
    yield process
    process.kill()
    process.wait()
    for one in below:
        os.kill(one, signal.SIGKILL)


def _until(reached: object) -> None:
    end = time.monotonic() + 20
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@needs_ps
def test_processes_are_found_without_proc(
    tree: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = guardian.descendants(os.getpid())
    assert len(known) >= 2
    monkeypatch.setattr(guardian, "PROCESSES", tmp_path)
    assert sorted(guardian.descendants(os.getpid())) == sorted(known)
    monkeypatch.setenv("PATH", str(tmp_path))  # nor ps
    assert guardian.descendants(os.getpid()) == []


@needs_ps
@pytest.mark.parametrize("order", ["outer", "inner"])
def test_guardian_ends_what_the_command_started_without_proc(tmp_path: Path, order: str) -> None:
    program = GUARDED.format(
        folder=str(Path(guardian.__file__).parent), nowhere=str(tmp_path), order=order, tree=TREE
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    _until(lambda: len(guardian.descendants(process.pid)) == 2)
    below = guardian.descendants(process.pid)
    assert process.stdin is not None
    process.stdin.close()  # as if its starter had ended
    process.wait(20)
    _until(lambda: not any(_lives(one) for one in below))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_who_listens_is_not_known_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "PROCESSES", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        assert not lookup.held_by_another_account(port)
        assert not lookup.served_by_others(port, [])


def test_memory_is_the_machines_without_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", (tmp_path / "memory.max",))
    assert memory.main_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    in_bytes = memory.peak_memory()
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.peak_memory() >= 1024 * in_bytes  # there it comes in bytes, here in kilobytes


def test_cores_are_counted_without_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(facts, "PROCESSOR_INFORMATION", tmp_path / "cpuinfo")
    tags = facts.hardware_tags(Settings(home=tmp_path, device="cpu"))
    assert tags["hardware.cores"] == str(os.cpu_count())
    assert tags["hardware.device"]
    monkeypatch.setattr(doctor.sys, "platform", "darwin")
    assert doctor._cores() == os.cpu_count()


def test_templates_keep_their_limit_of_time_where_there_is_none_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretended = "import transformers.utils.chat_template_utils; sys.platform = 'darwin'; "
    elsewhere = rendering.CHILD.replace("answer_requests()", f"{pretended}answer_requests()")
    assert elsewhere != rendering.CHILD
    monkeypatch.setattr(rendering, "CHILD", elsewhere)
    renderer = rendering._Renderer()
    monkeypatch.setattr(rendering, "_RENDERER", renderer)
    messages = [[{"role": "user", "content": "hi"}]]
    try:
        texts, _ = rendering.render(
            messages, chat_template="{{ messages[0]['content'] }}", documents=None, tools=None
        )
        assert texts == ["hi"]
        endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
        with pytest.raises(rendering.ModelError, match="more than 1 s"):
            rendering.render(messages, chat_template=endless, documents=None, tools=None)
    finally:
        renderer._close()
