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
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""Long enough for a checkpoint that only one member writes."""


@dataclass(frozen=True, slots=True)
class Team:
    """One member's view of its team."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this member writes what is written once: logs, checkpoints, results."""
        return self.rank == 0

    def share(self, units: Iterable[T]) -> Iterator[T]:
        """Give this member's units of work: every `size`-th, from the `rank`-th on."""
        return islice(units, self.rank, None, self.size)

    def join(self, results: Sequence[T]) -> list[T]:
        """Put together what each member made of its `share`, in the order of the units."""
        if self.size == 1:
            return list(results)
        shares = self.gather(results)
        units = range(sum(map(len, shares)))
        return [shares[unit % self.size][unit // self.size] for unit in units]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the members; the same bits on each."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def greatest(self, values: torch.Tensor) -> torch.Tensor:
        """Take the maximum over the members, element by element."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values

    def gather(self, value: T) -> list[T]:
        """Collect one object of each member, in the order of ranks."""
        if self.size == 1:
            return [value]
        found: list[T | None] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def agree(self, flag: bool) -> bool:
        """Tell whether the flag is up on any member."""
        return any(self.gather(flag))

    def wait(self) -> None:
        """Wait until every member is here."""
        if self.size > 1:
            distributed.barrier()


def current_team() -> Team:
    """The team that this process has joined, or the process alone."""
    if distributed.is_available() and distributed.is_initialized():
        return Team(distributed.get_rank(), distributed.get_world_size())
    return Team()


@contextmanager
def joined_team(
    device: str,
    meeting: str = "env://",
    rank: int = -1,
    size: int = -1,
    timeout: timedelta = TIMEOUT,
) -> Iterator[Team]:
    """Join the team that this process was started for, and leave it at the end.

    Args:
        device: cpu, or an accelerator; decides how members talk.
        meeting: Where they meet, an `init_method` of torch; by default torchrun says it, and who
            this process is.
        timeout: After which a member that waits for the others gives up.
    """
    # Numbers that decide lie on the CPU and travel by gloo, also where weights are on accelerators.
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, meeting, timeout, rank=rank, world_size=size)
    try:
        yield current_team()
    finally:
        distributed.destroy_process_group()
