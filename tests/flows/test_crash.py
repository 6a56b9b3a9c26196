"""Kill -9 in the middle of a stage, run again: the same MLflow run goes on, to the same bits."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from flows.pipeline import PipelineResult
from tasks.results.store import verify

PATIENCE_SECONDS = 300
KILLS = int(os.environ.get("QUARTET_TEST_KILLS", "3"))
CANCELS = int(os.environ.get("QUARTET_TEST_CANCELS", "3"))
"""How many runs are killed, and cancelled, at random; a campaign takes more."""
LEAVE_SECONDS = 40
"""After 45 s a worker kills a cancelled run."""


def command(home: Any, *words: str) -> list[str]:
    settings = [word for setting in home.TINY for word in ("--set", setting)]
    start = "from flows.cli.app import main; main()"
    return [sys.executable, "-c", start, "run", "quickstart", *settings, *words]


def environment(home: Any, prefect_server: str) -> dict[str, str]:
    return {**os.environ, **home.environment(), "PREFECT_API_URL": prefect_server}


def stop_at_first_checkpoint(
    home: Any, prefect_server: str, stage: str, how: signal.Signals
) -> int:
    """Start a run, wait for the stage's first sealed checkpoint, send a signal."""
    folder = home.path / "store" / stage
    with (home.path / "killed.log").open("wb") as log:
        process = subprocess.Popen(
            command(home), env=environment(home, prefect_server), stdout=log, stderr=log
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not list(folder.glob("*.partial/checkpoints/checkpoint-*/SEAL.json")):
            assert process.poll() is None, (home.path / "killed.log").read_text()
            assert time.monotonic() < deadline, f"no checkpoint of {stage}"
            time.sleep(0.002)
        process.send_signal(how)
        status = process.wait(PATIENCE_SECONDS)
    assert list(folder.glob("*.partial")), f"{stage} was finished before it could be killed"
    assert not [path for path in folder.iterdir() if path.is_dir() and "." not in path.name]
    return status


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "ppo"])
def test_run_goes_on_where_it_was_killed(
    stage: str,
    first_run: PipelineResult,
    first_home: Any,
    prefect_server: str,
    new_home: Callable[[], Any],
) -> None:
    names = [ref.stage for ref in first_run.stages]
    home = new_home()
    before = first_run.stages[: names.index(stage)] if stage != "pretrain" else []
    for ref in before:  # finished earlier; MLflow here knows nothing of them
        shutil.copytree(first_home.folder(ref), home.folder(ref))

    status = stop_at_first_checkpoint(home, prefect_server, stage, signal.SIGKILL)
    assert status == -signal.SIGKILL
    (partial,) = (home.path / "store" / stage).glob("*.partial")
    broken_run = (partial / "RUN_ID").read_text()
    client = MlflowClient(tracking_uri=f"sqlite:///{home.path / 'mlflow.db'}")
    dead_parent = client.get_run(broken_run).data.tags["mlflow.parentRunId"]
    assert client.get_run(dead_parent).info.status == "RUNNING"  # nobody could say otherwise
    torn = sorted(path.name for path in partial.glob("checkpoints/checkpoint-*"))

    out = home.path / "result.json"
    done = subprocess.run(
        command(home, "--result", str(out)),
        env=environment(home, prefect_server),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    stages = {one["name"]: one for one in json.loads(out.read_text())["stages"]}
    for index, name in enumerate(names):
        assert stages[name]["reused"] is (index < names.index(stage)), name

    assert stages[stage]["mlflow_run_id"] == broken_run
    run = client.get_run(broken_run)
    assert run.data.tags["quartet.resumed"] == "true"
    assert run.info.status == "FINISHED"
    assert client.get_run(dead_parent).info.status == "KILLED"
    assert run.data.tags["mlflow.parentRunId"] == json.loads(out.read_text())["mlflow_run_id"]
    assert torn, "it began again instead of going on"
    assert_steps_went_on(home.path / "store" / stage / stages[stage]["digest"], torn[0])

    for ref in first_run.stages:  # as if nothing had happened
        assert stages[ref.stage]["digest"] == ref.digest
        mine, theirs = (
            verify(each.folder(ref), ref.stage, ref.digest).files for each in (home, first_home)
        )
        weights = [name for name in theirs if name.endswith(".safetensors")]
        assert {name: mine[name].sha256 for name in weights} == {
            name: theirs[name].sha256 for name in weights
        }


def assert_steps_went_on(folder: Path, first_checkpoint: str) -> None:
    """No step up to the first checkpoint was computed twice."""
    saved = int(first_checkpoint.rpartition("-")[2])
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open() if line.strip()]
    early = [step for step in steps if step < saved]
    assert len(early) == len(set(early))


def killed(home: Any, prefect_server: str, at: int, log: Path) -> int:
    """Run with events counted, killed at one of them; 0 for none."""
    words = [word for setting in home.TINY for word in ("--set", setting)]
    with log.open("wb") as file:
        return subprocess.run(
            [sys.executable, "-m", "tests.flows.killed", str(at), "run", "quickstart", *words],
            env=environment(home, prefect_server),
            stdout=file,
            stderr=file,
            timeout=PATIENCE_SECONDS,
        ).returncode


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS * (KILLS + 1))
def test_a_run_that_was_killed_anywhere_ends_as_if_it_had_not_been(
    prefect_server: str, new_home: Callable[[], Any], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    whole = new_home()
    (whole.path / "mlflow.db").unlink()
    assert killed(whole, prefect_server, 0, log) == 0, log.read_text()
    events = int(re.findall(r"^events (\d+)$", log.read_text(), re.MULTILINE)[-1])
    wanted = published(whole.path)
    last = events * 9 // 10  # threads make a few more or less
    for at in random.Random(7).sample(range(1, last), KILLS):
        home = new_home()
        (home.path / "mlflow.db").unlink()  # its tables are made within the counted events
        assert killed(home, prefect_server, at, log) == -signal.SIGKILL, f"event {at}"
        assert killed(home, prefect_server, 0, log) == 0, f"event {at}: {log.read_text()}"
        assert "Traceback" not in log.read_text(), f"event {at}"
        assert published(home.path) == wanted, f"event {at}"
        assert not unfinished(home.path), f"event {at}"
        assert "RUNNING" not in in_mlflow(home.path), f"event {at}"
    with get_client(sync_client=True) as client:
        active = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=active))
    assert not [run.name for run in runs]


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS * (CANCELS + 1))
def test_a_run_that_is_cancelled_anywhere_leaves_and_goes_on(
    first_run: PipelineResult, first_home: Any, prefect_server: str, new_home: Callable[[], Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Each is told to stop at a random moment of its stages, until one is through."""
    wanted, moments = published(first_home.path), random.Random(11)
    home, log = new_home(), tmp_path / "log"
    cancelled: list[tuple[str, float]] = []
    while len(cancelled) < CANCELS:
        stage, seconds = cancel(home, prefect_server, moments.uniform(0, 12), log)
        assert "Traceback" not in log.read_text(), log.read_text()
        assert "RUNNING" not in in_mlflow(home.path), stage
        if stage:
            assert "KILLED" in in_mlflow(home.path), stage
            cancelled.append((stage, seconds))
            continue
        assert published(home.path) == wanted
        home = new_home()
    print(*(f"{stage}: left after {seconds:.1f} s" for stage, seconds in cancelled), sep="\n")
    assert killed(home, prefect_server, 0, log) == 0, log.read_text()
    assert published(home.path) == wanted
    assert not unfinished(home.path)


def cancel(home: Any, prefect_server: str, after: float, log: Path) -> tuple[str, float]:
    """Start a run and tell it to stop after some seconds of its stages.

    Returns:
        The stage that it was in, and the seconds until it had left; no stage if it was through.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(home), env=environment(home, prefect_server), stdout=file, stderr=file
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "Task run" not in log.read_text() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
        return "", 0.0
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    status = process.wait(LEAVE_SECONDS)
    stages = re.findall(r"Task run '([\w-]+)'", log.read_text())
    return (stages[-1] if status else ""), time.monotonic() - told


def published(home: Path) -> dict[str, dict[str, str]]:
    """Digest and weights of each stage."""
    manifests = [json.loads(path.read_text()) for path in home.glob("store/*/*/MANIFEST.json")]
    return {
        f"{one['stage']}/{one['digest']}": {
            name: entry["sha256"]
            for name, entry in one["files"].items()
            if name.endswith(".safetensors")
        }
        for one in manifests
    }


def unfinished(home: Path) -> list[Path]:
    """What only a process that still runs may have."""
    drafts = (".partial", ".writing", ".removed", ".draft", ".tmp", ".new")
    notes = [path for name in ("runs", "commands", "unrecorded") for path in home.glob(f"{name}/*")]
    return notes + [path for path in home.rglob("*") if path.name.endswith(drafts)]


def in_mlflow(home: Path) -> set[str]:
    """States of all runs."""
    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quartet")
    return {run.info.status for run in client.search_runs([experiment.experiment_id])}


@pytest.mark.slow
def test_run_marks_itself_as_killed_when_it_is_interrupted(
    prefect_server: str, new_home: Callable[[], Any]
) -> None:
    home = new_home()
    assert stop_at_first_checkpoint(home, prefect_server, "pretrain", signal.SIGINT) != 0
    (note,) = (home.path / "store" / "pretrain").glob("*.partial/RUN_ID")
    client = MlflowClient(tracking_uri=f"sqlite:///{home.path / 'mlflow.db'}")
    run = client.get_run(note.read_text())
    assert run.info.status == "KILLED"
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "KILLED"
    assert not list((home.path / "store").glob("*/*.writing"))
