"""Gradients of a team that shares one batch: each member computes some rows, all learn from all.

Models are wrapped in nothing (no DistributedDataParallel): code may call any part of a model, and
what a wrapper would exchange in the middle of a backward pass is summed here, after its end.
"""

from collections.abc import Iterable

import torch
from torch import distributed

from models.distributed.team import current_team

BUCKET = 2**24
"""Numbers exchanged at once, 64 MiB in float32."""


def sum_over_team(tensors: Iterable[torch.Tensor]) -> None:
    """Sum tensors over the members, in place; the same bits on each. Sums are made in float32.

    Args:
        tensors: As many and of the same shapes on each member.
    """
    if current_team().size == 1:
        return
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET:
            _sum_bucket(bucket)
            bucket = []
        bucket.append(tensor)
    if bucket:
        _sum_bucket(bucket)


def _sum_bucket(tensors: list[torch.Tensor]) -> None:
    flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
    distributed.all_reduce(flat, group=current_team().group)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, summed in zip(tensors, parts, strict=True):
        tensor.detach().copy_(summed.view_as(tensor))
