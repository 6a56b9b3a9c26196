"""An iteration that is not yet finished: its rollout and the optimiser steps taken so far."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from models.language.sequences import Sequences
from models.ppo.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """What exists between sampling and the last optimiser step, ready to be saved.

    Attributes:
        rollout: Collected before the first optimiser step.
        steps: Monitors of each optimiser step so far.
    """

    rollout: Rollout
    steps: list[dict[str, float]] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """Whether the last step left the actor alone: it was too far from the rollout's policy."""
        last = self.steps[-1] if self.steps else {}
        return "policy/approx_kl" in last and "policy/grad_norm" not in last

    def report(self) -> dict[str, float]:
        """Combine the rollout's monitors with those of the optimiser steps."""
        steps = self.steps
        metrics = {**self.rollout.metrics, **_mean_of(steps)}
        if "policy/loss" in metrics:  # the critic's warm-up is over
            metrics["policy/first_ratio_error"] = steps[0]["policy/ratio_error"]
            metrics["policy/first_approx_kl"] = steps[0]["policy/approx_kl"]
            metrics["policy/ratio_max"] = max(step["policy/ratio_max"] for step in steps)
            metrics["policy/learning_rate"] = steps[0]["policy/learning_rate"]
            metrics["policy/early_stop"] = float(self.stopped)
            del metrics["policy/ratio_error"]
        update_seconds = sum(step["time/update_seconds"] for step in steps)
        seconds = metrics["time/rollout_seconds"] + update_seconds
        return {
            **metrics,
            "policy/optimizer_steps": float(sum("policy/grad_norm" in step for step in steps)),
            "time/update_seconds": update_seconds,
            "time/tokens_per_second": int(self.rollout.sequences.lengths.sum()) / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> "Iteration":
        """Undo `state_dict`, with the tensors on a device."""
        rollout = _to_device(state["rollout"], device)
        sequences = Sequences(**_to_device(rollout["sequences"], device))
        return cls(rollout=Rollout(**rollout | {"sequences": sequences}), steps=state["steps"])


def _to_device(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }


def _mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Average each metric over the optimiser steps that report it."""
    counts = Counter(name for step in steps for name in step)
    return {name: sum(step.get(name, 0.0) for step in steps) / counts[name] for name in counts}
