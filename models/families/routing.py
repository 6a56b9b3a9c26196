"""A mixture of experts watched: how evenly its tokens are spread, and its loss on a cut batch.

Source: Fedus et al., Switch Transformers (2021), equations 4 to 6: the load-balancing loss. It is
least where all experts take equally many tokens: as many as experts per token, since transformers
takes it over all layers together. Loads are looked at layer by layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from models.distributed.team import current_team


@contextmanager
def shared_balance(model: Any, parts: int) -> Iterator[None]:
    """Count the load-balancing loss of a batch once, though each of its parts adds its own."""
    coef = getattr(model, "router_aux_loss_coef", None)
    if coef is not None:
        model.router_aux_loss_coef = coef / (parts * current_team().size)
    try:
        yield
    finally:
        if coef is not None:
            model.router_aux_loss_coef = coef


class RoutingWatch:
    """Counts the tokens that each expert takes while the block lasts; nothing without experts."""

    def __init__(self, model: Any) -> None:
        self._routers = [
            module for module in model.modules() if type(module).__name__.endswith("TopKRouter")
        ]
        self._counts: dict[int, torch.Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> "RoutingWatch":
        for layer, router in enumerate(self._routers):
            self._counts[layer] = torch.zeros(2, router.weight.shape[0], dtype=torch.float64)
            self._handles.append(router.register_forward_hook(self._counter(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def metrics(self) -> dict[str, float]:
        """Name what was seen; nothing without experts.

        Returns:
            expert_load: tokens of the busiest expert of any layer, 1 = as many as if all had
            equally many; idle_experts: share of the experts, over all layers, with less than a
            tenth of that; balance_loss: the load-balancing loss.
        """
        if not self._counts:
            return {}
        seen = current_team().total(torch.stack([*self._counts.values()]))  # (layers, 2, experts)
        taken, chance = seen[:, 0], seen[:, 1]
        even = taken.sum(1, keepdim=True) / taken.shape[1]
        tokens = float(chance.sum())  # of all layers: chances of a token sum to 1
        balance = taken.shape[1] * (taken.sum(0) * chance.sum(0)).sum() / tokens**2
        return {
            "expert_load": float((taken / even).max()),
            "idle_experts": float((taken < 0.1 * even).double().mean()),
            "balance_loss": float(balance),
        }

    def _counter(self, layer: int) -> Any:
        def count(router: Any, _: Any, output: tuple[torch.Tensor, ...]) -> None:
            logits, _scores, chosen = output
            experts = logits.shape[1]
            taken = torch.bincount(chosen.flatten(), minlength=experts)
            chance = logits.detach().float().softmax(-1).sum(0)
            self._counts[layer] += torch.stack([taken, chance]).double().cpu()

        return count
