"""What a command needs before it runs a flow itself: a Prefect API, and a note that it does so."""

import contextlib
from collections.abc import Iterator

from tasks.machine.liveness import command_announced
from tasks.machine.temporary import ensure_prefect
from tasks.settings import Settings


@contextlib.contextmanager
def flows_run_here(settings: Settings) -> Iterator[None]:
    """Have a Prefect API during the block, and mark the flow runs that start in it as ours.

    If this process is killed, the next run finds them by that mark, however early it happened.

    Raises:
        QuartetError: No Prefect server could be started.
    """
    ensure_prefect(settings)
    from prefect import tags  # after the environment says where its API is

    from tasks.run.logs import causes_left_out

    with command_announced(settings) as tag, tags(tag), causes_left_out():
        yield
