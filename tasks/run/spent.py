"""How long all attempts at a stage took, kept beside its checkpoints.

A stage that was cancelled, failed or was killed resumes; what it cost is the sum of its attempts.
"""

import contextlib
import time
from pathlib import Path

from tasks.results.store import write_whole

SPENT = "SPENT_SECONDS"
"""File in a stage's partial folder."""

NOTE_SECONDS = 5.0
"""Least time between two notes: a killed attempt loses no more than this."""


class Spent:
    """The clock of a stage: this attempt and those before it."""

    def __init__(self, partial: Path) -> None:
        """Continue where earlier attempts ended.

        Args:
            partial: The stage's folder of checkpoints.
        """
        self._path = partial / SPENT
        self._started = self._noted = time.monotonic()
        self._before = 0.0
        with contextlib.suppress(OSError, ValueError):  # the first attempt, or a torn note
            self._before = max(0.0, float(self._path.read_text(encoding="utf-8")))

    def seconds(self) -> float:
        """Wall time of all attempts up to now."""
        return self._before + time.monotonic() - self._started

    def note(self, *, at_once: bool = False) -> None:
        """Keep the time for a next attempt; cheap, for most calls write nothing."""
        now = time.monotonic()
        if at_once or now - self._noted >= NOTE_SECONDS:
            self._noted = now
            with contextlib.suppress(OSError):  # a full disk is told by what needs it
                write_whole(self._path, str(self.seconds()))
