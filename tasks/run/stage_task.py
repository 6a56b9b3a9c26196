"""How Prefect runs a stage: under its own name, uncached, and again after trouble of the network.

A stage goes on from its last checkpoint, so trying again costs little. What the stage itself
refuses or finds (bad data, a diverged loss) is never tried again: it would only fail once more.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import httpx
import requests
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

P = ParamSpec("P")
R = TypeVar("R")

RETRY_AFTER_SECONDS = (10, 60)
"""A longer pause each time."""

INFRASTRUCTURE = (
    ConnectionError,
    httpx.TransportError,
    requests.ConnectionError,
    requests.Timeout,
)


def stage_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function the Prefect task of a stage.

    Args:
        name: Of the stage, and so of its runs.
    """
    return task(
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        retries=len(RETRY_AFTER_SECONDS),
        retry_delay_seconds=list(RETRY_AFTER_SECONDS),
        retry_condition_fn=_was_infrastructure,
    )


def _was_infrastructure(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the trouble came from a connection, or an error says that it was caused by one."""
    error: Any = state.result(raise_on_failure=False)
    while isinstance(error, BaseException):
        if isinstance(error, INFRASTRUCTURE):
            return True
        error = error.__cause__
    return False
