"""The processes that train together: who they are, and what they tell each other.

Code asks `current_team()` and works the same way alone and in company: alone, everything is this
process's share and nothing has to be told. Nothing here decides what a share is; units of work that
keep their size and their random numbers whoever does them (rows, chunks) are dealt by index, so
that results do not depend on how many processes there are.

Every member must make the same calls in the same order; one that does not makes the others wait
until the group's time-out. Two threads of a process must therefore not talk at the same time.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import distributed

T = TypeVar("T")

Sharding: TypeAlias = Literal["replicate", "full", "hybrid"]

_joined: list["Team"] = []

TIMEOUT = timedelta(minutes=10)
"""Long enough for a checkpoint that only one member writes."""


@dataclass(frozen=True, slots=True)
class Team:
    """One member's view of its team.

    Attributes:
        rank: Among the members. Processes that compute each layer together (tensor parallel) are
            one member: they have the same rank, the same share and hear the same.
        size: Number of members.
        sharding: How members hold models: each whole ones (replicate), each its part (full), or
            each of two groups (hybrid).
        tensor_parallel: Processes of each member.
        partner: This process among them.
        first_here: Whether no other process of this host has a lower rank; each host has one.
    """

    rank: int = 0
    size: int = 1
    sharding: Sharding = "replicate"
    tensor_parallel: int = 1
    partner: int = 0
    first_here: bool = True
    group: Any = field(default=None, repr=False, compare=False)  # one process of each member

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self.size * self.tensor_parallel

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once: logs, checkpoints, results."""
        return self.rank == self.partner == 0

    @property
    def keeps(self) -> bool:
        """Whether this process writes what its host reads again: checkpoints, choices, adapters."""
        return self.leads or self.first_here

    @property
    def shards(self) -> bool:
        """Whether models are spread over processes."""
        return self.tensor_parallel > 1 or self.in_step

    @property
    def in_step(self) -> bool:
        """Whether members must compute equally often, because they talk while they compute."""
        return self.size > 1 and (self.sharding != "replicate" or self.tensor_parallel > 1)

    def share(self, units: Iterable[T]) -> Iterator[T]:
        """Give this member's units of work: every `size`-th, from the `rank`-th on."""
        return islice(units, self.rank, None, self.size)

    def share_in_step(self, units: Iterable[T]) -> Iterator[T]:
        """Give this member's units; equally many to each, where they must compute equally often.

        Then the last unit stands in for those that are missing.
        """
        if not self.in_step:
            yield from self.share(units)
            return
        known = list(units)
        for first in range(0, len(known), self.size):
            yield known[min(first + self.rank, len(known) - 1)]

    def join(self, results: Sequence[T], units: int | None = None) -> list[T]:
        """Put together what each member made of its `share`, in the order of the units.

        Args:
            units: How many there were; with fewer than results the last ones stood in for others.
        """
        if self.size == 1:
            return list(results)
        shares = self.gather(results)
        known = range(sum(map(len, shares)) if units is None else units)
        return [shares[unit % self.size][unit // self.size] for unit in known]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the members; the same bits on each."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values, group=self.group)
        return values

    def greatest(self, values: torch.Tensor) -> torch.Tensor:
        """Take the maximum over all processes, element by element."""
        if self.processes > 1:
            values = values.clone()
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values

    def gather(self, value: T) -> list[T]:
        """Collect one object of each member, in the order of ranks."""
        if self.size == 1:
            return [value]
        found: list[T | None] = [None] * self.size
        distributed.all_gather_object(found, value, group=self.group)
        return found  # type: ignore[return-value]

    def agree(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process."""
        if self.processes == 1:
            return flag
        found = [False] * self.processes
        distributed.all_gather_object(found, flag)
        return any(found)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.processes > 1:
            distributed.barrier()


def current_team() -> Team:
    """The team that this process has joined, or the process alone."""
    if _joined:
        return _joined[-1]
    if distributed.is_available() and distributed.is_initialized():
        rank = distributed.get_rank()
        return Team(rank, distributed.get_world_size(), first_here=rank == 0)
    return Team()


@contextmanager
def joined_team(
    device: str,
    meeting: str = "env://",
    rank: int = -1,
    size: int = -1,
    timeout: timedelta = TIMEOUT,
    *,
    sharding: Sharding = "replicate",
    tensor_parallel: int = 1,
) -> Iterator[Team]:
    """Join the team that this process was started for, and leave it at the end.

    Args:
        device: cpu, or an accelerator; decides how members talk.
        meeting: Where they meet, an `init_method` of torch; by default torchrun says it, and who
            this process is.
        timeout: After which a member that waits for the others gives up.
        sharding: How members hold models that are spread.
        tensor_parallel: Processes that compute each layer together; they have neighbouring ranks.
    """
    # Numbers that decide lie on the CPU and travel by gloo, also where weights are on accelerators.
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, meeting, timeout, rank=rank, world_size=size)
    member, partner = divmod(distributed.get_rank(), tensor_parallel)
    processes = distributed.get_world_size()
    groups = [
        distributed.new_group(list(range(first, processes, tensor_parallel)))
        for first in range(tensor_parallel if tensor_parallel > 1 else 0)
    ]
    _joined.append(
        Team(
            rank=member,
            size=processes // tensor_parallel,
            sharding=sharding,
            tensor_parallel=tensor_parallel,
            partner=partner,
            first_here=distributed.get_node_local_rank(distributed.get_rank()) == 0,
            group=groups[partner] if groups else None,
        )
    )
    try:
        yield current_team()
    finally:
        _joined.clear()
        distributed.destroy_process_group()
