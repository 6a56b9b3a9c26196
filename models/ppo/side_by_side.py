"""Actor and critic are separate networks, so their work can be done at the same time.

On a CPU two matrix products with half of the threads each are faster than one after the other with
all of them: small products scale badly, and what Python does in between runs beside the other's
arithmetic. On a GPU, where one kernel fills the device, the work is done in turn; so it is in a
team of processes, which fill the cores themselves and must all talk in one order.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from models.distributed.team import current_team

First = TypeVar("First")
Second = TypeVar("Second")


class SideBySide:
    """Runs two pieces of work that share no state.

    Results do not depend on timing: each piece has its own threads, as many on every run.
    """

    def __init__(self, device: torch.device, *, critic: bool = True) -> None:
        """Prepare a second thread where there is a second CPU thread for it.

        Args:
            critic: Whether there is one; the actor alone learns with all threads.
        """
        wanted = critic and device.type == "cpu" and current_team().processes == 1
        self._threads = torch.get_num_threads() if wanted else 1
        self._pool: ThreadPoolExecutor | None = None
        if self._threads > 1:
            self._pool = ThreadPoolExecutor(
                1, "critic", initializer=torch.set_num_threads, initargs=(self._threads // 2,)
            )

    def run(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Do both; an error of the first is raised before one of the second.

        Args:
            first: Done in this thread.
            second: Done in the other; sees none of this thread's torch contexts.
        """
        if self._pool is None:
            return first(), second()
        torch.set_num_threads(self._threads // 2)
        future = self._pool.submit(second)
        try:
            done = first()
        finally:
            future.exception()  # wait, whatever happened here
            torch.set_num_threads(self._threads)
        return done, future.result()
