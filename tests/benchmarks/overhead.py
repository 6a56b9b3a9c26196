"""What orchestration and tracking cost: the quickstart as a flow against the bare functions.

    python tests/benchmarks/overhead.py [--rounds 1] [--set path.to.field=value …]

Both sides run in turn, each in a process of its own, with the same parameters and threads. The flow
has a Prefect server and an MLflow server on loopback, started before the clock; bare is what each
stage's task hands to `models/`, called one after the other without store, Prefect and MLflow.

Besides the whole, every stage's wall time is printed, and the processor time of each side's own
process: what wall time gains beyond that was spent waiting for a core that the servers had.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

DIGEST = "0" * 64
STAGES = (
    "prepare", "tokenizer", "pretrain", "sft", "feedback", "reward", "reward-quality", "ppo",
    "evaluate",
)  # fmt: skip
MODULES = {"reward-quality": "reward_quality"}
"""Where a stage is run, if not in the module of its name."""


def main() -> None:
    """Measure and print, or be one of the sides."""
    parser = ArgumentParser(description="Measure the cost of orchestration and tracking.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--side", choices=["bare", "flow"])
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps({"bare": bare, "flow": flow}[arguments.side](arguments.settings)))
        return
    measured: dict[str, list[dict[str, float]]] = {"bare": [], "flow": []}
    for number in range(arguments.rounds):
        for side, rounds in measured.items():
            with tempfile.TemporaryDirectory() as home, _servers(Path(home), side) as environment:
                rounds.append(_run(side, arguments.settings, environment))
            print(f"round {number}, {side}: {rounds[-1]}", file=sys.stderr, flush=True)
    print(f"{'':10} {'bare':>8} {'flow':>8}   seconds, medians of {arguments.rounds}")
    for part in (*STAGES, "whole", "processor"):
        bare_seconds, flow_seconds = (
            statistics.median(one[part] for one in measured[side]) for side in ("bare", "flow")
        )
        more = 100 * (flow_seconds / bare_seconds - 1)
        print(f"{part:10} {bare_seconds:8.1f} {flow_seconds:8.1f}   {more:+.1f}%")


def flow(settings: list[str]) -> dict[str, float]:
    """Run the pipeline; seconds by stage, of the whole, and of the processor."""
    from flows.forms import RunForm
    from flows.pipeline import rlhf_pipeline

    form = RunForm.of("quickstart", settings)
    started, busy = time.perf_counter(), time.process_time()
    result: Any = rlhf_pipeline(form)
    stages = {stage.stage: stage.seconds for stage in result.stages}
    return stages | _spent(started, busy)


def bare(settings: list[str]) -> dict[str, float]:
    """Run the same stages without anything around them; the same seconds."""
    from flows import pipeline, preferences
    from flows.forms import RunForm
    from tasks.run.pipeline import PipelineRun

    parameters = RunForm.of("quickstart", settings).to_parameters()
    nobody = PipelineRun(name="bare", preset="quickstart", seed=parameters.seed, run_id="")
    root = Path(os.environ["QUARTET_HOME"])
    with contextlib.ExitStack() as stack:
        for stage in STAGES:
            module = MODULES.get(stage, stage)
            stack.enter_context(patch(f"tasks.stages.{module}.run_stage", _bare_stage(root)))
        for module in ("tokenizer", "pretrain", "sft", "reward", "ppo"):
            tokens = f"tasks.stages.{module}.token_folder"  # bare stages have no manifest
            stack.enter_context(patch(tokens, lambda *_: root / "tokens"))
        for nobody_looks in (
            "flows.pipeline.record_verdict",
            "tasks.stages.pretrain.register",
            "tasks.stages.sft.register",
            "tasks.stages.reward.register",
            "tasks.stages.ppo.register",
        ):
            stack.enter_context(patch(nobody_looks, lambda *_: None))
        for module, names in (
            (pipeline, ("prepare", "train_tokenizer", "pretrain", "finetune", "align", "evaluate")),
            (preferences, ("collect_feedback", "train_reward_model", "measure_reward_quality")),
        ):
            for name in names:
                task = getattr(module, name)
                stack.enter_context(patch.object(module, name, task.fn))
        started, busy = time.perf_counter(), time.process_time()
        stages = pipeline._run_stages(parameters, nobody, ask=False)
        return {stage.stage: stage.seconds for stage in stages} | _spent(started, busy)


def _spent(started: float, busy: float) -> dict[str, float]:
    return {"whole": time.perf_counter() - started, "processor": time.process_time() - busy}


def _bare_stage(root: Path) -> Callable[..., Any]:
    """In place of `run_stage`: folders, the learning, and a log that nobody reads."""
    from models.runtime import use_device
    from tasks.results.curves import append_history
    from tasks.results.store import StageRef, Store
    from tasks.run.workspace import Workspace
    from tasks.settings import load_settings

    store = Store(load_settings().store)

    def run(spec: Any, pipeline: Any, learn: Callable[[Any], Any]) -> StageRef:
        out, checkpoints = store.folder(spec.name, DIGEST), root / "checkpoints" / spec.name
        out.mkdir(parents=True)
        checkpoints.mkdir(parents=True)
        started = time.perf_counter()
        metrics = learn(
            Workspace(
                inputs={role: store.folder(ref.stage, DIGEST) for role, ref in spec.inputs.items()},
                out=out,
                checkpoints=checkpoints,
                cache=root / "cache",
                device=use_device("auto", load_settings().threads),
                log=lambda values, step: append_history(out, values, step),
            )
        )
        seconds = time.perf_counter() - started
        return StageRef(stage=spec.name, digest=DIGEST, metrics=dict(metrics), seconds=seconds)

    return run


def _run(side: str, settings: list[str], environment: dict[str, str]) -> dict[str, float]:
    words = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, __file__, "--side", side, *words],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


@contextlib.contextmanager
def _servers(home: Path, side: str) -> Iterator[dict[str, str]]:
    """The environment of a side; a flow has both servers, bare has none."""
    environment = {**os.environ, "QUARTET_HOME": str(home)}
    if side == "bare":
        yield environment
        return
    from tests.flows.operated import operated

    with operated(home, worker=False) as operation:
        servers = {
            "PREFECT_API_URL": operation.api,
            "QUARTET_TRACKING_URI": operation.mlflow_uri,
        }
        yield environment | operation.credentials() | servers


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
