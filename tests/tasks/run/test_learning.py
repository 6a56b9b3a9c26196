"""Training in several processes: started, followed, ended together, resumed."""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoints import latest
from models.distributed.records import from_plain, to_plain
from models.errors import DataError, DivergedError, ParameterError, TeamError
from models.evaluation.samples import Samples
from models.language.config import SamplingConfig
from models.runtime import TrainingRun, ignore
from tasks.machine.guardian import descendants
from tasks.machine.teams import held_lock
from tasks.results.curves import read_history
from tasks.results.store import Manifest, Store
from tasks.run import learning
from tasks.run.learning import Learner
from tasks.run.pipeline import PipelineRun
from tasks.run.scale import Scale, chosen_scale
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import Settings, load_settings
from tasks.tracking.client import Tracker
from tests.tasks.run.together import count_together

PATIENCE_SECONDS = 120
GONE_SECONDS = 30
STEPS = 60
KILLS = int(os.environ.get("QUARTET_TEST_TEAM_KILLS", "1"))
"""How many processes are killed at random moments; a campaign takes more."""
WHOLE = "total 180.0"  # 60 steps, each of the ranks' 1 + 2


def training_run(partial: Path, log: Any) -> TrainingRun:
    (partial / "out").mkdir(parents=True)
    return TrainingRun(
        out=partial / "out", checkpoints=partial / "checkpoints", seed=1, device="cpu", log=log
    )


def learn(partial: Path, what: str) -> Any:
    learner = Learner(Scale(processes=2), partial, "cpu")
    return learner.learn(
        count_together,
        config=SamplingConfig(),
        steps=4,
        seconds=0.05,
        run=training_run(partial, ignore),
        what=what,
    )


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.usefixtures("home")
def test_a_stage_learns_in_two_processes_as_in_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_PROCESSES", "2")
    monkeypatch.setenv("QUARTET_SHARDING", "full")
    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    seen: list[tuple[float, int, float]] = []

    def learn_together(work: Workspace) -> dict[str, float]:
        def log(metrics: Any, step: int) -> None:
            seen.append((time.monotonic(), step, metrics["together/total"]))
            work.log(metrics, step)

        found = work.learn(
            count_together,
            config=SamplingConfig(temperature=0.7),
            steps=4,
            seconds=0.3,
            run=work.training_run(work.out, 1, log),
        )
        assert found["config"] == SamplingConfig(temperature=0.7)
        assert found["out"] == work.out
        assert found["sharding"] == "full"
        return {"together/sum": found["total"]}

    tracker = Tracker(load_settings())
    pipeline = PipelineRun(
        name="p", preset="toy", seed=0, run_id=tracker.start_run("p", parameters={}, tags={})
    )
    spec = StageSpec(name="toy", module="models.randomness", parameters={"toy": {}})
    with caplog.at_level(logging.INFO):
        ref = run_stage(spec, pipeline, learn_together)
    assert ref.metrics == {"together/sum": 12}
    assert [(step, total) for _, step, total in seen] == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert seen[2][0] - seen[0][0] > 0.3  # they came as they were made
    assert "2 processes learn together" in caplog.text
    assert ("models.together", "begins with step 1") in [one[::2] for one in caplog.record_tuples]
    folder = Store(load_settings().store).folder(ref.stage, ref.digest)
    assert not alive(json.loads((folder / "pids.json").read_text()))
    manifest = Manifest.read(folder)
    scale = {"processes": 2, "sharding": "full", "tensor_parallel": 1, "backend": "gloo"}
    assert manifest.scale == scale
    assert manifest.peak_gib > 0.1  # each has imported torch
    tags = tracker.tags(ref.run_id)
    assert {name: tags[f"quartet.{name}"] for name in scale} == {
        name: str(value) for name, value in scale.items()
    }
    monkeypatch.setenv("QUARTET_PROCESSES", "1")
    assert run_stage(spec, pipeline, learn_together).reused  # where it ran is no part of it


def test_a_killed_process_ends_all_and_is_named(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(
        TeamError, match=r"process 1 on .* was killed with exit status -9"
    ) as caught:
        learn(tmp_path, "die")
    assert "about to die" in str(caught.value)  # its last lines
    assert time.monotonic() - begin < GONE_SECONDS + PATIENCE_SECONDS
    assert not alive(json.loads((tmp_path / "out" / "pids.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("diverge", DivergedError, "the loss is no longer finite"),
        ("refuse", DataError, "row 7 is wrong"),
        ("hang", TeamError, "waited .* minutes in vain for the others"),
    ],
)
def test_errors_of_any_process_come_as_they_were_raised(
    what: str, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "TIMEOUT_SECONDS", 6.0)
    with pytest.raises(kind, match=words):
        learn(tmp_path, what)
    assert not alive(json.loads((tmp_path / "out" / "pids.json").read_text()))


def test_one_process_calls_here(tmp_path: Path) -> None:
    learner = Learner(Scale(), tmp_path, "cpu")
    assert learner.used_scale() == {}
    assert learner.learn(lambda x: (x, os.getpid()), x=object)[1] == os.getpid()
    assert learner.used_scale() == {"processes": 1}
    assert not list(tmp_path.iterdir())


def test_a_second_attempt_waits_for_the_first_ones_processes(tmp_path: Path) -> None:
    said = []
    with held_lock(tmp_path, on_wait=lambda: said.append("waits")) as lock:
        program = "import time, sys; print('up', flush=True); time.sleep(1)"
        child = subprocess.Popen([sys.executable, "-c", program], pass_fds=[lock])
    with held_lock(tmp_path, on_wait=lambda: said.append("waits")):
        assert child.poll() is not None or child.wait(0.5) == 0
    assert said == ["waits"]


def test_what_a_killed_stage_could_not_take_over_is_taken_later(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    lines = [{"step": step, "metrics": {"a": float(step)}} for step in (1, 2, 3)]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 4, "met'  # torn by the kill
    (tmp_path / "team" / "log.jsonl").write_text(text)
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "metrics": {"a": 2.0}}\n')
    taken = []
    Learner(Scale(processes=2), tmp_path, "cpu")._catch_up(lambda _, step: taken.append(step))
    assert taken == [2, 3]


# --- what passes --------------------------------------------------------------------------------


def test_values_pass_through_json_bit_for_bit(tmp_path: Path) -> None:
    run = TrainingRun(
        out=tmp_path, checkpoints=tmp_path, seed=3, device="cpu", log=lambda metrics, step: None
    )
    samples = Samples(
        texts=[["a", "é"]], prompt_ids=[[1]], token_ids=[[[1, 2], [3]]],
        finished=np.array([[True, False]]), kl=np.array([[0.1, np.inf]]),
    )  # fmt: skip
    given = {
        "run": run, "none": None, "path": tmp_path / "x", "tuple": (1, [2.5, "x", True]),
        "config": SamplingConfig(temperature=0.3), "nested": {"a": {"path": "no path"}},
        "small": np.array([0.1, 1e-30], np.float32), "empty": np.zeros((0, 3)), "numbers": {1: 2},
    }  # fmt: skip
    back = from_plain(json.loads(json.dumps(to_plain(given))), run.log)
    assert {name: back[name] for name in given if name not in ("small", "empty")} == {
        name: given[name] for name in given if name not in ("small", "empty")
    }
    assert back["small"].dtype == np.float32
    assert back["small"].tobytes() == given["small"].tobytes()  # type: ignore[attr-defined]
    assert back["empty"].shape == (0, 3)
    again = from_plain(json.loads(json.dumps(to_plain(samples))))
    assert again.kl.tobytes() == samples.kl.tobytes()  # type: ignore[union-attr]
    assert again.finished.dtype == np.bool_
    assert again.texts == samples.texts


def test_what_cannot_pass_is_refused() -> None:
    with pytest.raises(TypeError, match="function cannot pass"):
        to_plain({"learn": learn})


# --- how many -----------------------------------------------------------------------------------


def test_scale_is_one_process_on_a_cpu_unless_it_is_set() -> None:
    assert chosen_scale(Settings(), "cpu") == Scale()
    assert chosen_scale(Settings(processes=3), "cpu").processes == 3
    assert Scale().described("cpu") == {"processes": 1}
    assert chosen_scale(Settings(processes=4, tensor_parallel=2), "cpu").described("cpu") == {
        "processes": 4,
        "sharding": "replicate",
        "tensor_parallel": 2,
        "backend": "gloo",
    }
    hosts = chosen_scale(Settings(processes=2, nodes=3, rendezvous="10.0.0.1:1"), "cpu")
    assert (hosts.processes, hosts.here) == (6, 2)
    assert hosts.described("cpu")["nodes"] == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tensor_parallel": 2}, "QUARTET_TENSOR_PARALLEL is 2, which does not divide 1"),
        ({"processes": 2, "sharding": "hybrid"}, "QUARTET_SHARDING is hybrid with 2 processes"),
        ({"processes": 8, "tensor_parallel": 4, "sharding": "hybrid"}, "hybrid with 2 processes"),
        ({"nodes": 2, "rendezvous": "10.0.0.1:1", "sharding": "full"}, "hosts share no disk"),
    ],
)
def test_scales_that_mean_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        chosen_scale(Settings(**settings), "cpu")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ParameterError, match="is 4, and this machine has 2 GPUs"):
        chosen_scale(Settings(processes=4), "cuda")
    assert chosen_scale(Settings(), "cuda").processes == 2


# --- signals ------------------------------------------------------------------------------------


def start_flow(partial: Path) -> subprocess.Popen[str]:
    program = (
        "from pathlib import Path; from tests.tasks.run.together import main; "
        f"main(Path({str(partial)!r}), {STEPS}, '')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pids(flow: subprocess.Popen[str], partial: Path) -> dict[str, int]:
    """Everybody, once the flow's team has made three steps."""
    noted, deadline = partial / "out" / "pids.json", time.monotonic() + PATIENCE_SECONDS

    def wait_for(reached: Callable[[], bool]) -> None:
        while not reached():
            assert flow.poll() is None, flow.stderr and flow.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for(noted.exists)
    before = len(logged(partial))
    wait_for(lambda: len(logged(partial)) >= before + 3)
    launcher, *ranks = json.loads(noted.read_text())
    noted.unlink()  # for the next attempt to note its own
    status = Path(f"/proc/{launcher}/status").read_text()
    parent = re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)
    assert parent is not None
    return {
        "flow": flow.pid, "guardian": int(parent[1]), "torchrun": launcher,
        "first rank": ranks[0], "second rank": ranks[1],
    }  # fmt: skip


def logged(partial: Path) -> list[int]:
    return [step for step, _ in read_history(partial).get("together/total", [])]


def begins(said: str) -> int:
    """After which step a team began."""
    found = re.search(r"resumes after step (\d+)|begins with step 1", said)
    assert found is not None, said
    return int(found[1] or 0)


ENDS: list[tuple[str, signal.Signals, str, bool]] = [
    ("first rank", signal.SIGKILL, "process 0 on .* was killed with exit status -9", False),
    ("flow", signal.SIGTERM, "", True),
    ("flow", signal.SIGKILL, "", True),
    ("torchrun", signal.SIGKILL, "torchrun, which runs the processes, was ended", True),
    ("guardian", signal.SIGKILL, "TeamError", True),
]
"""Who is ended how, what the flow says of it, and whether the team saves what it has."""


@pytest.mark.slow
def test_whoever_is_ended_all_end_and_the_next_attempt_resumes(tmp_path: Path) -> None:
    flow, saved = start_flow(tmp_path), 0
    flows = [flow]
    try:
        for who, how, words, saves in ENDS:
            everybody = pids(flow, tmp_path)
            before = logged(tmp_path)[-1]
            os.kill(everybody[who], how)
            begin = time.monotonic()
            flows.append(start_flow(tmp_path))  # at once: it has to wait for those that leave
            while alive(list(everybody.values())):
                assert time.monotonic() - begin < GONE_SECONDS, alive(list(everybody.values()))
                time.sleep(0.05)
            _, said = flow.communicate(timeout=GONE_SECONDS)
            assert re.search(words, said), said
            assert flow.returncode == (143 if how == signal.SIGTERM else -9 if who == "flow" else 1)
            assert begins(said) == saved
            flow = flows[-1]
            if saves:
                found = latest(tmp_path / "checkpoints")
                assert found is not None
                saved = int(found.name.rpartition("-")[2])
                assert saved >= before
        out, said = flow.communicate(timeout=PATIENCE_SECONDS)
    finally:
        for one in flows:
            one.kill()
    assert WHOLE in out, said
    assert begins(said) == saved
    assert logged(tmp_path) == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE_SECONDS * (KILLS + 1))
@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_any_moment_leaves_nothing_and_loses_nothing(number: int, tmp_path: Path) -> None:
    chance = random.Random(number)
    first = start_flow(tmp_path)
    time.sleep(chance.uniform(0.5, 20))  # while starting, learning, leaving, or after the end
    below = descendants(first.pid)
    os.kill(chance.choice([first.pid, *below]), signal.SIGKILL)
    begin = time.monotonic()
    first.communicate(timeout=PATIENCE_SECONDS)
    again = start_flow(tmp_path)  # at once: it has to wait for those that still leave
    while alive(below):
        assert time.monotonic() - begin < GONE_SECONDS, alive(below)
        time.sleep(0.05)
    out, said = again.communicate(timeout=PATIENCE_SECONDS)
    assert WHOLE in out, said
    assert logged(tmp_path) == list(range(1, STEPS + 1))
