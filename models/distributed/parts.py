"""Weights, gradients and optimisers in parts in several processes, made whole and cut again.

Where nothing is spread (`models.distributed.sharding`), each function does what is done with whole
tensors, to the bit.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


@contextmanager
def gathered(model: Any) -> Iterator[Any]:
    """Give a whole copy of a model whose members would talk while it computes, or the model itself.

    For as many forward passes without gradients as each member likes. The copy costs the memory of
    the whole weights.
    """
    if not any(isinstance(module, FSDPModule) for module in model.modules()):
        yield model
        return
    config = copy.deepcopy(model.config)
    config.distributed_config = None
    kind: Any = next(one for one in type(model).__mro__ if not issubclass(one, FSDPModule))
    with torch.device("meta"):
        copied = kind(config)
    weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    copied.load_state_dict(weights, assign=True)
    for name, buffer in model.named_buffers():  # those that no state holds, too
        owner, _, last = name.rpartition(".")
        setattr(copied.get_submodule(owner), last, buffer)
    copied.tie_weights()
    yield copied.eval().requires_grad_(False)


def whole(value: Any) -> Any:
    """Gather the sharded tensors in nested dictionaries and lists; every process calls this."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def spread(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Take this process's part of a whole tensor, cut and placed as another one."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    placed = value.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore the state of an optimiser from whole tensors, whatever it is spread over."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if any(isinstance(weight, DTensor) for weight in weights):
        parts = {
            number: {
                name: spread(one, weights[number]) if getattr(one, "ndim", 0) else one
                for name, one in moments.items()
            }
            for number, moments in state["state"].items()
        }
        groups = [
            {**saved, "fused": own["fused"], "foreach": own["foreach"]}
            for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
        ]
        state = {"state": parts, "param_groups": groups}
    optimizer.load_state_dict(state)


@torch.no_grad()
def clip_gradients(weights: Iterable[torch.Tensor], most: float) -> float:
    """Scale gradients down to a total norm, also where parts of them are in other processes.

    Returns:
        The norm before.
    """
    weights = list(weights)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not any(isinstance(one, DTensor) for one in gradients):
        return float(torch.nn.utils.clip_grad_norm_(weights, most))
    norms = [whole(torch.linalg.vector_norm(one)) for one in gradients]
    norm = float(torch.linalg.vector_norm(torch.stack(norms)))
    for gradient in gradients:
        gradient.mul_(min(1.0, most / (norm + 1e-6)))
    return norm
