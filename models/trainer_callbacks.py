"""What is added to transformers' Trainer: metrics out, checkpoints sealed, held-out loss measured.

Used by pretraining, SFT and reward modelling alike. Trainer's own reporting integrations are off:
they log hundreds of parameters under names of their own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from models.checkpoints import prune, seal
from models.errors import DivergedError
from models.runtime import Log

__all__ = ["HeldOutCallback", "LogCallback", "SealCallback"]

# Trainer's entries that are no measurements of the model, or that change from run to run.
NOT_LOGGED = ("epoch", "total_flos", "train_")
# Trainer's and TRL's names in this project's words.
NAMES = {
    "mean_token_accuracy": "token_accuracy",
    "num_tokens": "tokens",
    "accuracy": "train_accuracy",
    "margin": "score_margin",
    "mean_reward": "train_score_mean",
    "min_reward": "train_score_min",
    "max_reward": "train_score_max",
}


class LogCallback(TrainerCallback):  # type: ignore[misc]
    """Forward the trainer's numbers as ``<stage>/<name>`` at the optimiser step."""

    def __init__(self, stage: str, log: Log) -> None:
        self._stage = stage
        self._log = log

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Rename and forward one log entry."""
        metrics = {
            f"{self._stage}/{_metric_name(name)}": float(value)
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and not name.startswith(NOT_LOGGED)
        }
        if metrics:
            self._log(metrics, state.global_step)


class SealCallback(TrainerCallback):  # type: ignore[misc]
    """Seal each checkpoint that was written and delete older ones."""

    def __init__(self, checkpoints: Path, keep: int = 2) -> None:
        self._checkpoints = checkpoints
        self._keep = keep

    def on_save(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Seal the newest checkpoint, unless its weights are broken.

        Raises:
            DivergedError: A weight is not finite; nobody should resume from there.
        """
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise DivergedError(
                f"a weight is no longer finite at step {state.global_step}, so this checkpoint was "
                "not sealed; lower learning_rate or max_grad_norm"
            )
        seal(self._checkpoints / f"checkpoint-{state.global_step}")
        prune(self._checkpoints, self._keep)


class HeldOutCallback(TrainerCallback):  # type: ignore[misc]
    """Measure the model on held-out rows whenever a checkpoint was saved, but for the last.

    After the last step the stage measures by itself, whether it trained or only resumed there.
    """

    def __init__(self, measure: Callable[[Any], Mapping[str, float]], log: Log) -> None:
        self._measure = measure
        self._log = log

    def on_save(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Log the held-out metrics at this step."""
        if state.global_step < state.max_steps:
            self._log(self._measure(model), state.global_step)


def _metric_name(name: str) -> str:
    if name.startswith("eval_"):
        return "heldout_" + name.removeprefix("eval_")
    return NAMES.get(name, name)
