"""Log lines: what rows, models and servers said in them is escaped; a known cause is said once."""

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

from prefect.logging.handlers import PrefectConsoleHandler

from tasks.escaping import for_terminal
from tasks.run.faults import explain_fault
from tasks.settings import load_settings

ENGINE = ("prefect.flow_runs", "prefect.task_runs")
"""Prefect's loggers of runs."""
FAILED = "Finished in state Failed"

_left_out: ContextVar[bool] = ContextVar("causes_left_out", default=False)


class ConsoleHandler(PrefectConsoleHandler):
    """Prefect's own, but that no text in a line is obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line or lines, with the traceback."""
        return for_terminal(super().format(record))


def say_causes_once() -> None:
    """Have the engine's log lines of this process name a known cause once, without traceback."""
    for name in ENGINE:
        logging.getLogger(name).addFilter(once)


@contextlib.contextmanager
def causes_left_out() -> Iterator[None]:
    """Have no log line name a known cause: a command's last line does."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def once(record: logging.LogRecord) -> bool:
    """Let the flow run alone say a known cause, in its sentence; of a mistake all is kept."""
    error = record.exc_info[1] if record.exc_info and record.levelno >= logging.ERROR else None
    known = None if error is None else explain_fault(error, load_settings())
    if known is not None:
        if record.name != ENGINE[0] or _left_out.get():
            return False
        record.msg, record.args = "%s", (known,)
        record.exc_info = record.exc_text = None
    elif str(record.msg).startswith(f"{FAILED}("):
        record.msg = FAILED  # the cause stands above
    return True
