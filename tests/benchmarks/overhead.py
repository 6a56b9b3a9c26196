"""What orchestration and tracking cost: the quickstart as a flow against the bare functions.

    python tests/benchmarks/overhead.py [--rounds 1] [--set path.to.field=value …]

Both sides run in turn, each in a process of its own, with the same parameters and threads. The flow
has a Prefect server and an MLflow server on loopback, started before the clock; bare is what each
stage's task hands to `models/`, called one after the other without store, Prefect and MLflow.
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
STAGES = ("prepare", "tokenizer", "pretrain", "sft", "feedback", "reward", "ppo", "evaluate")


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
    measured: dict[str, list[float]] = {"bare": [], "flow": []}
    for number in range(arguments.rounds):
        for side, seconds in measured.items():
            with tempfile.TemporaryDirectory() as home, _servers(Path(home), side) as environment:
                seconds.append(_run(side, arguments.settings, environment))
            print(f"round {number}, {side}: {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    plain, whole = (statistics.median(measured[side]) for side in ("bare", "flow"))
    print(f"bare {plain:.1f} s, as a flow {whole:.1f} s: {100 * (whole / plain - 1):+.1f}%")


def flow(settings: list[str]) -> float:
    """Run the pipeline; seconds of the flow."""
    from flows.forms import RunForm
    from flows.pipeline import rlhf_pipeline

    form = RunForm.of("quickstart", settings)
    started = time.perf_counter()
    rlhf_pipeline(form)
    return time.perf_counter() - started


def bare(settings: list[str]) -> float:
    """Run the same stages without anything around them; seconds."""
    from flows import pipeline
    from flows.forms import RunForm
    from tasks.pipeline_run import PipelineRun

    parameters = RunForm.of("quickstart", settings).to_parameters()
    nobody = PipelineRun(name="bare", preset="quickstart", seed=parameters.seed, run_id="")
    root = Path(os.environ["QUARTET_HOME"])
    with contextlib.ExitStack() as stack:
        for stage in STAGES:
            stack.enter_context(patch(f"tasks.{stage}.run_stage", _bare_stage(root)))
        stack.enter_context(patch("tasks.evaluate._show", lambda *_: None))  # Prefect's, MLflow's
        for name in ("prepare", "train_tokenizer", "pretrain", "finetune", "collect_feedback",
                     "train_reward_model", "align", "evaluate"):  # fmt: skip
            stack.enter_context(patch(f"flows.pipeline.{name}", getattr(pipeline, name).fn))
        for stage in ("sft", "reward", "ppo"):
            stack.enter_context(patch(f"tasks.{stage}.register", lambda *_: None))
        started = time.perf_counter()
        pipeline._run_stages(parameters, nobody, ask=False)
        return time.perf_counter() - started


def _bare_stage(root: Path) -> Callable[..., Any]:
    """In place of `run_stage`: folders, the learning, and a log that nobody reads."""
    from models.device import use_device
    from tasks.history import append_history
    from tasks.settings import load_settings
    from tasks.stage import Workspace
    from tasks.store import StageRef, Store

    store = Store(load_settings().store)

    def run(spec: Any, pipeline: Any, learn: Callable[[Any], Any]) -> StageRef:
        out, checkpoints = store.folder(spec.name, DIGEST), root / "checkpoints" / spec.name
        out.mkdir(parents=True)
        checkpoints.mkdir(parents=True)
        metrics = learn(
            Workspace(
                inputs={role: store.folder(ref.stage, DIGEST) for role, ref in spec.inputs.items()},
                out=out,
                checkpoints=checkpoints,
                device=use_device("auto", load_settings().threads),
                log=lambda values, step: append_history(out, values, step),
            )
        )
        return StageRef(stage=spec.name, digest=DIGEST, metrics=dict(metrics))

    return run


def _run(side: str, settings: list[str], environment: dict[str, str]) -> float:
    words = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, __file__, "--side", side, *words],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def _servers(home: Path, side: str) -> Iterator[dict[str, str]]:
    """The environment of a side; a flow has both servers, bare has none."""
    environment = {**os.environ, "QUARTET_HOME": str(home)}
    if side == "bare":
        yield environment
        return
    from tests.flows.operation import operated

    with operated(home, worker=False) as operation:
        yield environment | {
            "PREFECT_API_URL": operation.api,
            "QUARTET_TRACKING_URI": operation.mlflow_uri,
        }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
