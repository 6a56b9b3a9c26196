"""Kill -9 in the middle of a stage, run again: the same MLflow run goes on, to the same bits."""

import contextlib
import json
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
KILLS = int(os.environ.get("QUARTET_TEST_KILLS", "1"))
CANCELS = int(os.environ.get("QUARTET_TEST_CANCELS", "1"))
"""How many runs are killed, and cancelled, at random; a campaign takes more."""
EVENTS = 3000
"""Of about 5,000 in a run that nobody disturbs; one that goes on has fewer."""
LEAVE_SECONDS = 40
"""After 45 s a worker kills a cancelled run."""


def command(home: Any, *words: str) -> list[str]:
    settings = [word for setting in home.TINY for word in ("--set", setting)]
    start = "from flows.cli.app import main; main()"
    return [sys.executable, "-c", start, "run", "quickstart", *settings, *words]


def environment(home: Any, prefect_server: str) -> dict[str, str]:
    return {**os.environ, **home.environment(), "PREFECT_API_URL": prefect_server}


def kill_at_first_checkpoint(home: Any, prefect_server: str, stage: str) -> Path:
    """Start a run, kill it at the stage's first sealed checkpoint; where that stage worked."""
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
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"{stage} was finished before it could be killed"
    assert not [path for path in folder.iterdir() if path.is_dir() and "." not in path.name]
    (partial,) = folder.glob("*.partial")
    return partial


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_SECONDS * 6)
def test_run_goes_on_where_it_was_killed(
    first_run: PipelineResult, first_home: Any, prefect_server: str, new_home: Callable[[], Any]
) -> None:
    """Killed in one training after the other, each time at its first checkpoint."""
    home, struck = new_home(), {}
    client = MlflowClient(tracking_uri=f"sqlite:///{home.path / 'mlflow.db'}")
    for stage in ("pretrain", "sft", "reward", "ppo"):
        partial = kill_at_first_checkpoint(home, prefect_server, stage)
        torn = sorted(path.name for path in partial.glob("checkpoints/checkpoint-*"))
        run = client.get_run((partial / "RUN_ID").read_text())
        parent = run.data.tags["mlflow.parentRunId"]
        assert client.get_run(parent).info.status == "RUNNING"  # nobody could say otherwise
        struck[stage] = (run.info.run_id, parent, torn)

    out = home.path / "result.json"
    done = subprocess.run(
        command(home, "--result", str(out)),
        env=environment(home, prefect_server),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    stages = {one["name"]: one for one in result["stages"]}
    assert [name for name, one in stages.items() if not one["reused"]] == ["ppo", "evaluate"]
    assert stages["ppo"]["mlflow_run_id"] == struck["ppo"][0]

    parents = [parent for _, parent, _ in struck.values()] + [result["mlflow_run_id"]]
    for number, (stage, (run_id, parent, torn)) in enumerate(struck.items()):
        assert torn, "it began again instead of going on"
        run = client.get_run(run_id)
        assert run.data.tags["quartet.resumed"] == "true"
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parents[number + 1]
        assert client.get_run(parent).info.status == "KILLED"
        assert_steps_went_on(home.path / "store" / stage / stages[stage]["digest"], torn[0])
    assert published(home.path) == published_by(first_run, first_home)


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
    first_run: PipelineResult, first_home: Any, prefect_server: str, new_home: Callable[[], Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Killed at one event after the other, until a run is through."""
    wanted, moments = published_by(first_run, first_home), random.Random(7)
    home, log, kills = fresh(new_home), tmp_path / "log", 0
    while kills < KILLS:
        at = moments.randrange(1, EVENTS)
        status = killed(home, prefect_server, at, log)
        assert "Traceback" not in log.read_text(), f"event {at}: {log.read_text()}"
        if status == -signal.SIGKILL:
            kills += 1
            continue
        assert status == 0, f"event {at}: {log.read_text()}"
        assert published(home.path) == wanted, f"event {at}"
        home = fresh(new_home)
    assert killed(home, prefect_server, 0, log) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert published(home.path) == wanted
    assert not unfinished(home.path)
    assert "RUNNING" not in in_mlflow(home.path)
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
    wanted, moments = published_by(first_run, first_home), random.Random(11)
    home, log = new_home(), tmp_path / "log"
    cancelled: list[tuple[str, float]] = []
    while len(cancelled) < CANCELS:
        how = (signal.SIGTERM, signal.SIGINT)[len(cancelled) % 2]
        stage, seconds = cancel(home, prefect_server, how, moments.uniform(0, 12), log)
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


def cancel(
    home: Any, prefect_server: str, how: signal.Signals, after: float, log: Path
) -> tuple[str, float]:
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
    process.send_signal(how)
    told = time.monotonic()
    status = process.wait(LEAVE_SECONDS)
    stages = re.findall(r"Task run '([\w-]+)'", log.read_text())
    return (stages[-1] if status else ""), time.monotonic() - told


def fresh(new_home: Callable[[], Any]) -> Any:
    """A home folder without a database: its tables are made within the counted events."""
    home = new_home()
    (home.path / "mlflow.db").unlink()
    return home


def published_by(run: PipelineResult, home: Any) -> dict[str, dict[str, str]]:
    """Digest and weights of each stage of a run, in a home that may hold others."""
    names = {f"{ref.stage}/{ref.digest}" for ref in run.stages}
    return {name: files for name, files in published(home.path).items() if name in names}


def published(home: Path) -> dict[str, dict[str, str]]:
    """Digest of each stage, and of its weights as they are on disk."""
    found = {}
    for manifest in home.glob("store/*/*/MANIFEST.json"):
        folder, stage = manifest.parent, manifest.parent.parent.name
        files = verify(folder, stage, folder.name).files
        found[f"{stage}/{folder.name}"] = {
            name: entry.sha256 for name, entry in files.items() if name.endswith(".safetensors")
        }
    return found


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
