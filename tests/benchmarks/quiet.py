"""Measured rounds in a quiet machine: what other processes took, and what to measure again.

A round is a span of work: one PPO iteration, one epoch. The span in which other processes took
more than 3% of the machine is refused and its round measured again, with the same prompts, a
bounded number of times; what is still noisy then is printed and marked. With one thread CPU
seconds are compared, which neighbours disturb little, and nothing is refused.
"""

import json
import os
import re
import resource
import sys
import time
from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOREIGN_SHARE = 0.03
"""Most of the machine that others may take of a measured span."""
PATIENCE_SECONDS = 60.0
"""Longest wait for quiet before a round."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Enough(Exception):
    """Every round is measured; ends a training loop that cannot be told to."""


class Span:
    """A span from its making to `end()`."""

    def __init__(self) -> None:
        """Begin."""
        self._busy, self._own, self._wall = _busy_seconds(), _own_seconds(), _wall()
        self.seconds = self.cpu_seconds = self.foreign_share = 0.0

    def end(self) -> "Span":
        """Fill in wall seconds, own CPU seconds and the share of the machine that others took."""
        self.seconds = _wall() - self._wall
        self.cpu_seconds = _own_seconds() - self._own
        foreign = _busy_seconds() - self._busy - self.cpu_seconds
        self.foreign_share = max(0.0, foreign) / (self.seconds * (os.cpu_count() or 1))
        return self


class Rounds:
    """Which round comes next; prints a JSON line for each that ends. Round 0 is the warm-up."""

    def __init__(self, arguments: Namespace) -> None:
        """Take `iterations`, `threads` and `tries` from the command line."""
        self.last: int = arguments.iterations
        self.threads: int = arguments.threads
        self.tries: int = arguments.tries
        self.number = 0
        self._attempt = 1
        self._span = Span()

    @property
    def most(self) -> int:
        """Most rounds that can come, repetitions included."""
        return 1 + self.last * self.tries

    def begin(self) -> None:
        """Wait for quiet and begin to measure."""
        if self.threads > 1:
            wait_for_quiet()
        self._span = Span()

    def end(self, **measured: Any) -> None:
        """Print what was measured and choose the next round.

        Raises:
            Enough: That was the last round.
        """
        span = self._span.end()
        refused = self.threads > 1 and span.foreign_share > FOREIGN_SHARE
        emit(
            {
                "round": self.number,
                "attempt": self._attempt,
                "seconds": span.seconds if self.threads > 1 else span.cpu_seconds,
                "foreign_share": round(span.foreign_share, 4),
                "noisy": refused,
                "peak_mib": peak_mib(),
                **measured,
            }
        )
        if self.number > 0 and refused and self._attempt < self.tries:
            self._attempt += 1
        else:
            self.number, self._attempt = self.number + 1, 1
        if self.number > self.last:
            raise Enough


def wait_for_quiet() -> None:
    """Return once others take little of the machine, or after a minute."""
    until = _wall() + PATIENCE_SECONDS
    while _wall() < until:
        span = Span()
        time.sleep(0.5)
        if span.end().foreign_share <= FOREIGN_SHARE:
            return


def child_arguments(what: str) -> Namespace:
    """Read the command line of a measured process; with one thread let clocks count CPU time."""
    parser = ArgumentParser(description=what)
    parser.add_argument("what", help="what to measure")
    parser.add_argument("--side", default="")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tries", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.threads == 1:
        # The code under measurement reads this clock for the phases that it reports.
        time.perf_counter = time.process_time
    return arguments


def emit(row: dict[str, Any]) -> None:
    """Print one JSON line."""
    print(json.dumps(row), flush=True)


def emit_header(**more: Any) -> None:
    """Print what this process runs on, before any round."""
    packages = ("torch", "transformers", "trl")
    emit(
        {
            "python": sys.version.split()[0],
            "versions": {package: version(package) for package in packages},
            **more,
        }
    )


def peak_mib() -> float:
    """Peak resident memory of this process.

    Not `ru_maxrss` where it can be helped: on Linux that begins with the parent's.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _busy_seconds() -> float:
    """CPU seconds that the machine has spent, on anybody's work, other guests' included."""
    numbers = [int(number) for number in Path("/proc/stat").read_text().split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / _TICKS  # but for idle and iowait


def _own_seconds() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def _wall() -> float:
    return time.monotonic()
