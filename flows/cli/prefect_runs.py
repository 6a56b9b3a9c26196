"""What a command needs before it runs a flow itself: a Prefect API, and a note that it does so."""

import contextlib
import gc
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tasks.machine.liveness import command_announced
from tasks.machine.temporary import ensure_prefect
from tasks.settings import Settings

if TYPE_CHECKING:
    from flows.planning.plan import Plan


@contextlib.contextmanager
def flows_run_here(settings: Settings, module: str) -> Iterator[None]:
    """Have a Prefect API during the block, and mark the flow runs that start in it as ours.

    If this process is killed, the next run finds them by that mark, however early it happened.

    Args:
        module: Of the flow; imported here, while a temporary server starts, and a local MLflow is
            opened.

    Raises:
        QuartetError: No Prefect server could be started.
    """

    def get_ready() -> None:
        importlib.import_module(module)
        from tasks.tracking.client import Tracker

        if not settings.tracking_uri:
            with contextlib.suppress(Exception):  # the run says what is wrong
                _ = Tracker(settings).experiment_id  # makes the database of a new home

    with quick_imports():
        ensure_prefect(settings, meanwhile=get_ready)
        from prefect import tags

    from tasks.run.logs import causes_left_out

    with command_announced(settings) as tag, tags(tag), causes_left_out():
        yield


def foretold(module: str, name: str, /, *args: Any, **kwargs: Any) -> "Plan":
    """Plan a flow of a module, before a run of it is made.

    Raises:
        QuartetError: The run would be refused.
    """
    with quick_imports():
        flow = getattr(importlib.import_module(module), name)
        from flows.planning.plan import plan_of
    return plan_of(flow, *args, **kwargs)


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Leave out the collection of garbage, which takes a fifth of a long import and finds none."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # modules stay
        gc.enable()
