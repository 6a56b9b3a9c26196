"""Log lines on their way to the terminal: what rows, models and servers said in them is escaped."""

import logging

from prefect.logging.handlers import PrefectConsoleHandler

from tasks.escaping import for_terminal


class ConsoleHandler(PrefectConsoleHandler):
    """Prefect's own, but that no text in a line is obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line or lines, with the traceback."""
        return for_terminal(super().format(record))
