"""Runs a function in several gloo processes on this machine: what the tests of teams share."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.distributed.team import joined_team


def in_team(
    size: int, function: Callable[..., Any], *arguments: Any, scratch: Path, **layout: Any
) -> list[Any]:
    """Call `function(*arguments)` in a team of so many processes; what each returned, by rank.

    The function must be importable by name. An exception of any process is raised here.

    Args:
        layout: For `joined_team`.
    """
    meeting = scratch / "meeting"
    meeting.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(size) as pool:
        call = (meeting.as_uri(), function, arguments, layout)
        calls = [(rank, size, *call) for rank in range(size)]
        return pool.starmap_async(_member, calls, chunksize=1).get(timeout=600)


def _member(
    rank: int,
    size: int,
    meeting: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    layout: dict[str, Any],
) -> Any:
    torch.set_num_threads(1)
    # What torchrun sets, and accelerate reads.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    with joined_team("cpu", meeting, rank, size, **layout):
        return function(*arguments)
