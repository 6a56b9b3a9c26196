"""Runs stages in processes to be killed: forks a child for each job that it is given.

A job is one line of JSON: stage, folder of the run, inputs, and where it is to hang, if anywhere.
The driver answers `pid N`, then `exit N` as soon as the child has ended; in between the child
itself says `learning` when it logs first and `hanging` when it has come to where it is to
hang. Imports, which take longer than the stages, are done once.

`hang` names a function of models, how it hangs and in which call: `before` or `after` it, or
`half`, for `torch.save`, when the first half of the file is written.
"""

import importlib
import io
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from models.families.config import ArchitectureConfig
from models.language.config import SamplingConfig
from models.ppo.config import AlarmConfig, PPOConfig
from models.ppo.run import train_ppo
from models.reward.config import RewardStageConfig
from models.reward.training import train_reward_model
from models.runtime import TrainingRun
from models.training import callbacks as trainer_callbacks
from models.training.config import PretrainConfig, SFTStageConfig
from models.training.pretraining import pretrain
from models.training.sft import finetune

TRAINER: dict[str, Any] = {"batch_size": 3, "learning_rate": 5e-3, "checkpoint_steps": 5}
SAMPLING = SamplingConfig(max_completion_tokens=6, temperature=0.8)
# 40 steps each, of the 7 rows where there are rows; 20 iterations with all that can have a state.
STAGES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "pretrain": (
        pretrain,
        {
            "config": PretrainConfig(steps=40, block_tokens=16, **TRAINER),
            "architecture": ArchitectureConfig(layers=2, width=32, heads=2, context=64),
        },
    ),
    "sft": (finetune, {"config": SFTStageConfig(epochs=17.0, **TRAINER)}),
    "reward": (
        train_reward_model,
        {
            "config": RewardStageConfig(epochs=17.0, moment_samples=16, **TRAINER),
            "sampling": SAMPLING,
        },
    ),
    "ppo": (
        train_ppo,
        {
            "config": PPOConfig(
                iterations=20,
                rollouts_per_iteration=6,
                rollouts_per_minibatch=3,
                actor_learning_rate=1e-3,
                critic_warmup_iterations=1,
                checkpoint_iterations=2,
                ema_decay=0.9,
                kl_target=1.0,
                kl_horizon=50,
                ptx_coef=0.5,
                ptx_rows=2,
                alarms=AlarmConfig(max_drift=0.01, critic_patience=1),
            ),
            "sampling": SAMPLING,
        },
    ),
}

LONGEST_SECONDS = 300
"""After them a child ends, whatever has become of those who would kill it."""


def main() -> None:
    """Fork, wait and tell, until there are no more jobs."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _be_child(json.loads(line))
        _say(f"pid {child}")
        _, status = os.waitpid(child, 0)
        _say(f"exit {os.waitstatus_to_exitcode(status)}")


def _say(words: str) -> None:
    os.write(1, f"{words}\n".encode())  # at once and whole, whoever else writes


def _be_child(job: Mapping[str, Any]) -> None:
    """Do the job and end, with the status and the words of an ordinary process."""
    folder = Path(job["folder"])
    os.dup2(os.open(folder / "stderr.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    signal.alarm(LONGEST_SECONDS)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # as flows.cli.app does
    trainer_callbacks.LOGGED_POINTS = 13  # spans of 3 steps, checkpoints every 5
    status = 1
    try:
        if job["hang"]:
            _plan_to_hang(**job["hang"])
        _learn(job, folder)
        status = 0
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _learn(job: Mapping[str, Any], folder: Path) -> None:
    """Run the stage as a task would: its log is a line for each call, with the time since the fork.

    The last line may be torn by a kill; the run that resumes ends it.
    """
    started = time.monotonic()
    history = os.open(folder / "metrics.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(history, b"\n")
    calls: list[int] = []

    def log(metrics: Mapping[str, float], step: int) -> None:
        row = {"step": step, "seconds": time.monotonic() - started, "metrics": dict(metrics)}
        os.write(history, json.dumps(row).encode() + b"\n")
        if not calls:
            _say("learning")
        calls.append(step)

    learn, configs = STAGES[job["stage"]]
    (folder / "out").mkdir(exist_ok=True)
    learn(
        **{name: Path(path) if path else None for name, path in job["inputs"].items()},
        **configs,
        run=TrainingRun(
            out=folder / "out",
            checkpoints=folder / "checkpoints",
            seed=11,
            device="cpu",
            log=log,
        ),
    )


def _plan_to_hang(module: str, name: str, how: str, call: int) -> None:
    """Make a function say `hanging` in one of its calls and wait there for the kill."""
    owner = importlib.import_module(module)
    original, calls = getattr(owner, name), []

    def hang() -> None:
        _say("hanging")
        while True:
            signal.pause()

    def watched(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) != call:
            return original(*args, **kwargs)
        if how == "half":
            whole = io.BytesIO()
            original(args[0], whole, **kwargs)
            Path(args[1]).write_bytes(whole.getvalue()[: whole.tell() // 2])
        elif how == "after":
            original(*args, **kwargs)
        return hang()

    setattr(owner, name, watched)


if __name__ == "__main__":
    main()
