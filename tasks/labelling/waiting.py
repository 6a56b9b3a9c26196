"""What is raised where answers of people are missing, and what a person said to go on with.

A stage cannot wait: no process may be held for days. So it ends without a result, and its flow
waits (`flows/waiting.py`). When the flow is resumed, the stage looks into its queue again.
"""

from contextvars import ContextVar

from models.errors import WaitingError
from tasks.labelling.queue import Queue

going_on: ContextVar[frozenset[str]] = ContextVar("going_on", default=frozenset())
"""Names of the queues with which the present flow run goes on as they are."""


class AwaitingPeopleError(WaitingError):
    """A review queue is not done.

    Attributes:
        queue: As it was found.
        some: Whether there is anything to go on with.
    """

    def __init__(self, message: str, queue: Queue, *, some: bool) -> None:
        super().__init__(message)
        self.queue = queue
        self.some = some


def refuse_missing(queue: Queue, *, some: bool) -> None:
    """Raise where a queue is not done, unless a person has the run go on with what there is.

    Args:
        queue: As it was found.
        some: Whether there is anything to go on with.

    Raises:
        AwaitingPeopleError: More answers are wanted.
    """
    if queue.progress.reached(queue.needed) or (some and queue.name in going_on.get()):
        return
    where = queue.page or "MLflow, which `quartet up` starts"
    raise AwaitingPeopleError(
        f"review queue {queue.name!r}: {queue.progress}, wanted {queue.needed}; review them in "
        f"{where}, then start the same run again: it reuses what is finished. A run that is "
        "started in Prefect waits by itself",
        queue,
        some=some,
    )
