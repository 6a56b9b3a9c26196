"""An iteration under way: its rollout and the optimiser steps taken so far, ready to be saved."""

from dataclasses import dataclass, field
from typing import Any

import torch

from models.language.sequences import Sequences
from models.ppo.rollout import Rollout

TENSORS = ("old_logprobs", "old_values", "advantages", "returns")


@dataclass(slots=True, kw_only=True)
class Iteration:
    """What there is between the sampling and the last optimiser step.

    Attributes:
        rollout: Collected before the first optimiser step.
        taken: Monitors of each optimiser step so far.
        stopped: Whether the inner epochs were ended early.
        rollout_seconds: Spent on collecting.
        update_seconds: Spent on the optimiser steps so far.
    """

    rollout: Rollout
    taken: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    rollout_seconds: float
    update_seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only."""
        rollout = self.rollout
        return {
            "sequences": {
                "input_ids": rollout.sequences.input_ids,
                "prompt_lengths": rollout.sequences.prompt_lengths,
                "completion_lengths": rollout.sequences.completion_lengths,
            },
            **{name: getattr(rollout, name) for name in TENSORS},
            "metrics": rollout.metrics,
            "taken": self.taken,
            "stopped": self.stopped,
            "rollout_seconds": self.rollout_seconds,
            "update_seconds": self.update_seconds,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> "Iteration":
        """Undo `state_dict`."""
        rollout = Rollout(
            sequences=Sequences(
                **{name: one.to(device) for name, one in state["sequences"].items()}
            ),
            **{name: state[name].to(device) for name in TENSORS},
            metrics=state["metrics"],
        )
        numbers = ("taken", "stopped", "rollout_seconds", "update_seconds")
        return cls(rollout=rollout, **{name: state[name] for name in numbers})
