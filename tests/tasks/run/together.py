"""What the tests of teams have processes do: sum over the team, log steps, heed signals."""

import json
import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import latest, seal
from models.distributed.interruption import Interruption
from models.distributed.team import current_team
from models.errors import DataError, DivergedError
from models.language.config import SamplingConfig
from models.runtime import TrainingRun
from tasks.results.curves import append_history

logger = logging.getLogger("models.together")


def count_together(
    *, config: SamplingConfig, steps: int, seconds: float, run: TrainingRun, what: str = ""
) -> dict[str, Any]:
    """Sum ranks for some steps; each sealed step can be resumed from.

    Args:
        seconds: That a step takes.
        what: To go wrong: `diverge`, `refuse` on the second rank, `die`, or `hang`.
    """
    team = current_team()
    found = latest(run.checkpoints)
    state = {"step": 0, "total": 0.0}
    if found is not None:
        state = json.loads((found / "state.json").read_text())
        logger.info("resumes after step %d", state["step"])
    else:
        logger.info("begins with step 1")
    pids = team.gather(os.getpid())
    if team.leads:
        (run.out / "pids.json").write_text(json.dumps([os.getppid(), *pids]))
    try:
        with Interruption() as interruption:
            while state["step"] < steps:
                with interruption.held():
                    _step(state, seconds, run, what)
    except SystemExit:
        _save(state, run)
        logger.warning("stopped after step %d", state["step"])
        raise
    _save(state, run)
    return {
        "total": state["total"], "config": config, "out": run.out, "sharding": team.sharding,
    }  # fmt: skip


def _step(state: dict[str, Any], seconds: float, run: TrainingRun, what: str) -> None:
    team = current_team()
    time.sleep(seconds)
    state["step"] += 1
    state["total"] += float(team.total(torch.tensor(team.rank + 1.0)))
    run.log({"together/total": state["total"]}, state["step"])
    if state["step"] < 3:
        return
    if what == "diverge":
        raise DivergedError("the loss is no longer finite")
    if what == "refuse" and team.rank == 1:
        raise DataError("row 7 is wrong")
    if what == "die" and team.rank == 1:
        warnings.warn("about to die", stacklevel=1)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang" and team.rank == 1:
        time.sleep(60)


def _save(state: dict[str, Any], run: TrainingRun) -> None:
    team = current_team()
    if team.leads:
        folder = Path(run.checkpoints) / f"checkpoint-{state['step']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps(state))
        seal(folder)
    team.wait()


def main(partial: Path, steps: int, what: str) -> None:
    """Be the flow: learn in two processes; say each step, and in the end what came of it."""
    from tasks.run.learning import Learner
    from tasks.run.scale import Scale

    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    (partial / "out").mkdir(parents=True, exist_ok=True)
    run = TrainingRun(
        out=partial / "out",
        checkpoints=partial / "checkpoints",
        seed=1,
        device="cpu",
        log=lambda metrics, step: append_history(partial, metrics, step),
    )
    found = Learner(Scale(processes=2), partial, "cpu").learn(
        count_together, config=SamplingConfig(), steps=steps, seconds=0.1, run=run, what=what
    )
    print(f"total {found['total']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
