"""Signals held back while weights are moving, so that a checkpoint can still be saved.

Whoever runs the process has a handler for SIGTERM, SIGINT and perhaps an alarm, which usually
raises. Inside `held` the signal waits; at its end that handler is called. So the exception strikes
at safe points only, and whoever catches it there can save and leave. Inside `released`, which is
for long work within `held` that may be given up, a signal strikes at once.

In a team a signal to one process concerns all: it waits, and the members agree at the end of each
`held` and at each `safe_point` whether one does, so that all leave at the same place.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch

from models.distributed.team import current_team

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class Interruption:
    """Guards a training loop: ``with Interruption() as interruption: … with interruption.held()``.

    Outside the main thread, where signals never arrive, it does nothing.
    """

    def __init__(self) -> None:
        self._holding = 0
        self._floor = 0  # what `_holding` falls to: 1 in a team, where no signal strikes at once
        self._waiting: tuple[int, FrameType | None] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != signal.SIGALRM or callable(signal.getsignal(number)):
                    self._previous[number] = signal.signal(number, self._arrive)
        self._floor = self._holding = int(current_team().processes > 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.safe_point()
        finally:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
        if kind is None and self._waiting is not None:  # it came while the members agreed
            self._deliver(*self._waiting)

    @property
    def requested(self) -> bool:
        """Whether a signal waits."""
        return self._waiting is not None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put signals off until the block ends; if it raises, its error goes first."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        self.safe_point()

    def safe_point(self) -> None:
        """Let a signal strike that waits; in a team, on every member if it waits on any."""
        team = current_team()
        if self._holding > self._floor:
            return
        if team.processes > 1:
            mine = self._waiting[0] if self._waiting else 0
            number = int(team.greatest(torch.tensor(mine)))
            if not number:
                return  # one that came meanwhile waits: the others do not know of it yet
            self._waiting = (number, None)
        self._deliver_waiting()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let signals strike at once within `held`, also one that waits already.

        Weights must be at rest and saved: nobody saves them after this.
        """
        holding, self._holding = self._holding, 0
        try:
            self._deliver_waiting()
            yield
        finally:
            self._holding = holding

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if not self._holding:
            self._deliver(number, frame)
        elif (
            self._waiting is None or number != signal.SIGALRM
        ):  # SIGTERM says more than a time limit
            self._waiting = (number, frame)

    def _deliver_waiting(self) -> None:
        if self._waiting is not None and self._holding <= self._floor:
            number, frame = self._waiting
            self._waiting = None
            self._deliver(number, frame)

    def _deliver(self, number: int, frame: FrameType | None) -> None:
        """Do what would have been done without us."""
        handler = self._previous.get(number, signal.SIG_DFL)  # another member's may be none of ours
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            raise SystemExit(128 + number)
