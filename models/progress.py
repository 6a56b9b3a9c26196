"""How far a long loop is, said while it runs: nothing that people wait for is silent."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

SECONDS = 5.0
"""Between two lines, whoever says them."""
SHORT_SECONDS = 2.0
"""What takes less says nothing."""

logger = logging.getLogger(__name__)
logging.getLogger("models").setLevel(logging.INFO)  # the root's is WARNING, also under Prefect


def told(items: Iterable[T], what: str, total: float = 0, unit: str = "") -> Iterator[T]:
    """Hand items on as they come, and log now and then how many have been done.

    Args:
        what: Of the line, such as "sampling".
        total: Number of items, 0 if it is not known.
        unit: What is counted, such as "completions".
    """
    meter = Meter(what, total, unit)
    for item in items:
        yield item
        meter.add(1)


class Meter:
    """Counts what is done of a whole, and says so every few seconds."""

    _said = 0.0
    """When any of this process said something: one long silence may be many loops."""

    def __init__(self, what: str, total: float = 0, unit: str = "") -> None:
        """Begin at none; the clock begins to run.

        Args:
            total: Of the whole, in the unit; 0 if it is not known.
        """
        self._what, self._total, self._unit = what, total, f" {unit}" if unit else ""
        self._done = 0.0
        self._began = time.monotonic()

    def add(self, done: float) -> None:
        """Count what has been done since; cheap, for most calls say nothing."""
        self._done += done
        now = time.monotonic()
        if now - Meter._said < SECONDS or now - self._began < SHORT_SECONDS:
            return
        Meter._said = now
        rate = self._done / (now - self._began)
        text = f"{self._what}: {self._done:,.0f}"
        if self._total:
            text += f" of {self._total:,.0f}"
        text += f"{self._unit}, {rate:,.3g}/s"
        if self._total > self._done and rate:
            text += f", {(self._total - self._done) / rate:.0f} s left"
        logger.info("%s", text)
