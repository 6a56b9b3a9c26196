"""What is added to transformers' Trainer: metrics out, checkpoints sealed, held-out loss measured.

Used by pretraining, SFT and reward modelling alike. Trainer's own reporting integrations are off:
they log hundreds of parameters under names of their own.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from models.checkpoints import prune, seal
from models.distributed.interruption import Interruption
from models.distributed.sharding import all_finite
from models.distributed.team import current_team
from models.errors import DivergedError
from models.runtime import Log

LOGGED_POINTS = 100
SPAN = "span.json"
MEASURED = "MEASURED"

# Trainer's entries that are no measurements of the model, or that change from run to run.
NOT_LOGGED = ("epoch", "total_flos", "train_", "num_tokens")
# The last value of a span is logged, not the mean.
LAST_COUNTS = ("learning_rate",)
# Trainer's and TRL's names in this project's words.
NAMES = {
    "mean_token_accuracy": "token_accuracy",
    "accuracy": "train_accuracy",
    "margin": "score_margin",
    "mean_reward": "train_score_mean",
    "min_reward": "train_score_min",
    "max_reward": "train_score_max",
}


class LogCallback(TrainerCallback):  # type: ignore[misc]
    """Forward the trainer's numbers as ``<stage>/<name>``: means over about 100 spans of steps.

    The trainer reports every step, and the means are made here: its own sums over a span are not
    part of its checkpoints, so a resumed run would report other means. Ours are.
    """

    def __init__(self, stage: str, log: Log) -> None:
        self._stage = stage
        self._log = log
        self._span: dict[str, list[float]] = {}

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take one step's numbers; at the end of a span, forward their means."""
        for name, value in (logs or {}).items():
            if isinstance(value, int | float) and not name.startswith(NOT_LOGGED):
                self._span.setdefault(name, []).append(float(value))
        every = max(1, state.max_steps // LOGGED_POINTS)
        if self._span and (state.global_step % every == 0 or state.global_step == state.max_steps):
            means = {
                f"{self._stage}/{_metric_name(name)}": values[-1]
                if name in LAST_COUNTS
                else math.fsum(values) / len(values)
                for name, values in self._span.items()
            }
            self._span = {}
            self._log(means, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save the unfinished span with the checkpoint."""
        if current_team().keeps:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / SPAN).write_text(json.dumps(self._span), encoding="utf-8")

    def resume(self, checkpoint: Path) -> None:
        """Continue the span that the checkpoint cut."""
        self._span = json.loads((checkpoint / SPAN).read_text(encoding="utf-8"))


class StopCallback(TrainerCallback):  # type: ignore[misc]
    """Save and end the training after the step in which a signal came to any member of the team."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint and for the end."""
        if current_team().agree(self._interruption.requested):
            control.should_save = True
            control.should_training_stop = True


class SealCallback(TrainerCallback):  # type: ignore[misc]
    """Seal each checkpoint that was written and delete older ones."""

    def __init__(self, checkpoints: Path, keep: int = 2, behind: int = 0) -> None:
        self._checkpoints = checkpoints
        self._keep = keep
        self._behind = behind

    def on_save(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Seal the newest checkpoint, once every member has written, unless weights are broken.

        Raises:
            DivergedError: A weight is not finite; nobody should resume from there.
        """
        if not all_finite(model.parameters()):
            raise DivergedError(
                f"a weight is no longer finite at step {state.global_step}, so this checkpoint was "
                "not sealed; lower learning_rate or max_grad_norm"
            )
        team = current_team()
        team.wait()
        if team.keeps:
            seal(self._checkpoints / f"checkpoint-{state.global_step}")
            prune(self._checkpoints, self._keep, self._behind)
        team.wait()


class HeldOutCallback(TrainerCallback):  # type: ignore[misc]
    """Measure the model on held-out rows at every checkpoint that is due, but for the last.

    After the last step the stage measures by itself, whether it trained or only resumed there. A
    run that is stopped measures nothing, or gives up a measurement that has begun: it has seconds,
    and its weights are saved. The run that resumes there measures instead.
    """

    def __init__(
        self,
        measure: Callable[[Any], Mapping[str, float]],
        log: Log,
        interruption: Interruption,
    ) -> None:
        self._measure = measure
        self._log = log
        self._interruption = interruption

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Log what the checkpoint resumed from still lacks: its run was stopped or killed there."""
        self._catch_up(args, state, model)

    def on_save(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Log the held-out metrics at this step."""
        if not control.should_training_stop:
            self._catch_up(args, state, model)

    def _catch_up(self, args: Any, state: Any, model: Any) -> None:
        step = state.global_step
        noted = Path(args.output_dir) / f"checkpoint-{step}" / MEASURED
        due = 0 < step < state.max_steps and step % args.save_steps == 0
        team = current_team()
        if due and not team.agree(noted.exists()):
            with self._interruption.released():
                metrics = self._measure(model)
            self._log(metrics, step)
            if team.keeps:
                noted.touch()  # beside the sealed files, which do not change


def _metric_name(name: str) -> str:
    if name.startswith("eval_"):
        return "heldout_" + name.removeprefix("eval_")
    return NAMES.get(name, name)
