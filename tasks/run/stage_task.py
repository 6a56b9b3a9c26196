"""A stage as a Prefect task: uncached, named after what it makes, retried after network trouble.

Bad data or a diverged loss would only fail once more. A stage that waits for people has not failed.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import httpx
import requests
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Completed

from models.errors import WaitingError
from tasks.run.planning import planning

RETRY_AFTER_SECONDS = (10, 60)
WAITING = "Waiting"
INFRASTRUCTURE = (ConnectionError, httpx.TransportError, requests.ConnectionError, requests.Timeout)

P = ParamSpec("P")
R = TypeVar("R")


class StageTask(Task[P, R]):
    """A task that is called as a plain function while stages are only foretold.

    One that waits for people raises a `WaitingError` in its flow, but its task run has not failed:
    it ends in the state *Waiting*.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        if planning() is not None:
            return self.fn(*args, **kwargs)
        result: Any = super().__call__(*args, **kwargs)
        if isinstance(result, State) and result.name == WAITING:
            raise result.result(raise_on_failure=False)
        return cast(R, result)


def _waiting_told(function: Callable[P, R]) -> Callable[P, R]:
    """Return a state where a stage waits: what a task raises is a failure to Prefect."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except WaitingError as waiting:
            if TaskRunContext.get() is None:
                raise
            return cast(R, Completed(name=WAITING, message=str(waiting), data=waiting))

    return run


def stage_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function the Prefect task of a stage: uncached, retried after trouble of the network.

    Args:
        name: Of the stage, and so of its runs; the pipeline run may add which part of it that is.
    """

    def name_run(parameters: dict[str, Any]) -> str:
        return f"{name} {getattr(parameters.get('pipeline'), 'part', '')}".strip()

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        return StageTask(
            _waiting_told(function),
            name=name,
            task_run_name=cast(Any, name_run),  # a protocol that no function fits
            cache_policy=NO_CACHE,
            retries=len(RETRY_AFTER_SECONDS),
            retry_delay_seconds=list(RETRY_AFTER_SECONDS),
            retry_condition_fn=_was_infrastructure,
        )

    return decorate


def _was_infrastructure(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    error: Any = state.result(raise_on_failure=False)
    while isinstance(error, BaseException):
        if isinstance(error, INFRASTRUCTURE):
            return True
        error = error.__cause__
    return False
