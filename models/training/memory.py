"""What training holds in memory, and how it is made less.

Activations can be computed again instead of kept. Weights can be held in bfloat16, with half of the
activations: then the optimiser moves float32 masters of them, and each step rounds these. Gradients
are float32 from one micro-batch to the next, so that their sum, their norm and the step are exact;
checkpoints hold the masters, and what is published is the masters.

Source: Micikevicius et al., Mixed Precision Training (2018), section 3.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer

from models.errors import ModelError
from models.families.scorers import score_head


def recompute_activations(network: Any) -> None:
    """Let a network in training mode compute each layer again instead of keeping it for gradients.

    Raises:
        ModelError: Its kind cannot.
    """
    if not network.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(network).__name__} cannot recompute its activations, but "
            "gradient_checkpointing is on; set it to false and lower tokens_per_microbatch, or "
            "choose another model"
        )
    network.activation_checkpointing_enable({"use_reentrant": False})


class MasterAdamW(torch.optim.AdamW):
    """AdamW that turns a network's weights into bfloat16 and moves their float32 masters.

    A score head stays float32: rounded scores would be equal ones.
    """

    def __init__(self, params: Any, *, network: Any, **settings: Any) -> None:
        """Take over weights of a network, in one list or in groups."""
        super().__init__(params, **settings)
        head = _score_head(network)
        self._lowered: list[torch.nn.Parameter] = []
        for group in self.param_groups:
            group["params"] = [
                one if id(one) in head else self._lower(one) for one in group["params"]
            ]

    def step(self, closure: Any = None) -> Any:
        """Move the masters, round them into the network, and forget their gradients."""
        loss = super().step(closure)
        self._round()
        self.zero_grad(set_to_none=True)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state, and the masters."""
        return super().state_dict() | {"masters": [master_of(one) for one in self._lowered]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        state = dict(state_dict)
        masters = state.pop("masters")
        super().load_state_dict(state)
        for weight, master in zip(self._lowered, masters, strict=True):
            master_of(weight).copy_(master)
        self._round()

    def _lower(self, weight: torch.nn.Parameter) -> torch.nn.Parameter:
        master = torch.nn.Parameter(weight.data)
        weight.data = master.data.bfloat16()
        weight.master = master  # type: ignore[attr-defined]
        weight.register_post_accumulate_grad_hook(_hand_over)  # type: ignore[no-untyped-call]
        self._lowered.append(weight)
        return master

    @torch.no_grad()
    def _round(self) -> None:
        for weight in self._lowered:
            weight.copy_(master_of(weight))


class MasterTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose optimiser may move masters.

    Attributes:
        has_masters: Whether the weights are to be bfloat16.
    """

    has_masters = False

    def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> Any:
        """Put masters below AdamW where the weights are to be bfloat16."""
        kind, settings = super().get_optimizer_cls_and_kwargs(args, model)
        if not self.has_masters:
            return kind, settings
        return MasterAdamW, settings | {"network": model}

    def _clip_grad_norm(self, model: Any) -> Any:
        if not self.has_masters:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_(learned_weights(model), self.args.max_grad_norm)


def master_of(weight: torch.Tensor) -> torch.Tensor:
    """What the optimiser moves, without a gradient: a float32 master, or the weight itself."""
    return getattr(weight, "master", weight).detach()


def learned_weights(network: Any) -> list[torch.Tensor]:
    """What holds gradients: the weights of a network, or the masters in place of those."""
    return [getattr(weight, "master", weight) for weight in network.parameters()]


def forget_gradients(network: Any) -> None:
    """Leave no gradient of a step that was broken off."""
    for weight in [*network.parameters(), *learned_weights(network)]:
        weight.grad = None


@contextmanager
def lowered(network: Any) -> Iterator[None]:
    """Give a network, for a while, the weights with which its learning under masters begins."""
    head = _score_head(network)
    weights = [one for one in network.parameters() if one.requires_grad and id(one) not in head]
    precise = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.bfloat16()
    try:
        yield
    finally:
        for weight, data in zip(weights, precise, strict=True):
            weight.data = data


def restore_float32(network: Any) -> None:
    """End the training of a network: its weights are the masters again."""
    for weight in network.parameters():
        if hasattr(weight, "master"):
            weight.data = weight.master.data
            del weight.master


def _score_head(network: Any) -> set[int]:
    return set(map(id, (score_head(network) or torch.nn.Module()).parameters()))


def _hand_over(weight: torch.Tensor) -> None:
    """Add a gradient, once it is complete, to the master's."""
    assert weight.grad is not None
    master, gradient = weight.master, weight.grad.float()  # type: ignore[attr-defined]
    weight.grad = None
    master.grad = gradient if master.grad is None else master.grad.add_(gradient)
