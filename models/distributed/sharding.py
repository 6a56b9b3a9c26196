"""Models whose weights are spread over the members of a team, by transformers and torch.

`shard` changes a whole model into one of which each process holds a part. It stays the model that
it was. Two ways, alone or together: a layer's weights are gathered when it computes and let go of
(FSDP2), and each member computes rows of its own; or each process computes a part of every layer
(tensor parallel) for the same rows.

With FSDP2 members talk while they compute. So all of them must compute equally often
(`Team.share` gives all members equally many units), and what calls parts of a model, past its own
forward, does so within `as_forward`, so that its weights are gathered and its gradients summed.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

from models.distributed.team import Team, current_team
from models.errors import ParameterError

T = TypeVar("T")

FORWARD = "quartet_forward"
"""The method of a sharded model that `as_forward` runs functions with."""


def is_sharded(model: Any) -> bool:
    """Whether each process holds only a part of the model."""
    return bool(getattr(model, "is_distributed_loading_by_transformers", False))


def shard(model: Any) -> Any:
    """Keep this process's part of a model; all of it where the team shares none.

    Args:
        model: The same whole model in each process, without adapters.

    Raises:
        ParameterError: Its attention heads cannot be shared equally by tensor parallel processes.
        ValueError: transformers does not know how to spread a model of this kind.
    """
    config = _config(current_team())
    if config is None:
        return model
    _refuse_uneven(model, config.tp_size)
    kind = type(model)
    _untie(model)
    config, _, mesh = kind.prepare_distribute_model(config)
    model = kind.maybe_distribute_model(model, config, mesh)
    model.tie_weights()
    if not current_team().in_step:  # FSDP2 places what it holds itself
        model.to(mesh.get_mesh("tp").device_type)
    setattr(model, FORWARD, MethodType(lambda self, function: function(), model))
    register_fsdp_forward_method(model, FORWARD)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # gradients are sums, as of replicas
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def _refuse_uneven(model: Any, processes: int) -> None:
    heads = model.config.num_attention_heads
    of_keys = getattr(model.config, "num_key_value_heads", None) or heads
    if heads % processes or of_keys % processes:
        fits = [one for one in range(1, of_keys + 1) if heads % one == 0 == of_keys % one]
        raise ParameterError(
            f"QUARTET_TENSOR_PARALLEL is {processes}, which does not divide the {heads} attention "
            f"heads and {of_keys} key and value heads of this {type(model).__name__}; choose one "
            f"of {', '.join(map(str, fits))}, or QUARTET_SHARDING=full, which divides any model"
        )


def _untie(model: Any) -> None:
    """Give tied weights objects of their own until they are spread, as while transformers loads."""
    for name, source in (model.all_tied_weights_keys or {}).items():
        owner, _, weight = name.rpartition(".")
        copied = model.get_parameter(source).detach()
        setattr(model.get_submodule(owner), weight, torch.nn.Parameter(copied))


def as_forward(model: Any, function: Callable[[], T]) -> T:
    """Run a function that calls parts of a model as if it were the model's own forward pass."""
    run: Callable[[Callable[[], T]], T] | None = getattr(model, FORWARD, None)
    if run is None:
        return function()
    found = run(function)
    if not torch.is_grad_enabled():  # else the backward pass does
        let_go(model)
    return found


def let_go(model: Any) -> None:
    """Hold this process's part of a model only; a forward pass keeps some weights gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def gathered_state(model: Any) -> Iterator[dict[str, Any] | None]:
    """Give what `save_pretrained` shall write of a spread model: its whole weights, tied ones once.

    Every process calls this; the leader gets the weights. Of a whole model there is nothing to say.
    """
    if not is_sharded(model):
        yield None
        return
    tied = model.all_tied_weights_keys or {}
    leads = current_team().leads
    state = {}
    for name, weight in model.state_dict().items():
        if name not in tied:
            whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
            if leads:
                state[name] = whole.cpu()
    config, model.config.distributed_config = model.config.distributed_config, None
    try:
        yield state  # which transformers would gather once more, and tied weights twice
    finally:
        model.config.distributed_config = config


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether each number of tensors is finite, of sharded ones in every process."""
    parts = (one.to_local() if isinstance(one, DTensor) else one for one in tensors)
    mine = all(bool(torch.isfinite(part).all()) for part in parts)
    return not current_team().agree(not mine)


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Norm of gradients whose parts lie in several processes.

    What several processes hold counts as often: good enough to see whether all is finite.
    """
    parts = [one.to_local() if isinstance(one, DTensor) else one for one in gradients]
    squared = torch.nn.utils.get_total_norm(parts).square()
    distributed.all_reduce(squared)
    return squared.sqrt()


def _config(team: Team) -> DistributedConfig | None:
    if not team.shards:
        return None
    replicas = {"replicate": team.size, "hybrid": 2}.get(team.sharding, 1)
    return DistributedConfig(
        tp_size=team.tensor_parallel,
        dp_replicate_size=replicas,
        fsdp_size=team.size // replicas,
    )
