"""One process at a time changes the aliases of a registered model, on whatever machine it runs.

MLflow has no compare-and-swap. What stands in for it:

- Processes that share a home folder: a file lock.
- Machines that share only the MLflow server: each process writes a mark, a tag of its own on the
  registered model, then reads all marks, and has its turn if it sees no other. Of two processes
  at least one sees the other's, for each writes before it reads; so however slow the server is, it
  costs time and never lets two in. Who sees another's mark waits: the process with the smallest
  mark keeps it, the others withdraw theirs until the way is free.

Nothing is assumed of how long a write takes. Time matters only where a process died with its mark:

- The next process of the same home folder, which has the file lock, knows that mark from a file
  beside the lock and removes it at once.
- Any other waits until it has seen a mark unchanged for `HOLD_SECONDS` of its own clock; clocks are
  never compared. A live process writes its mark anew, with another text, whenever `RENEW_SECONDS`
  have passed at one of its writes, and gives up if more than half of `HOLD_SECONDS` passed.

Not covered: a process that is frozen, or a request on its way, for more than half of
`HOLD_SECONDS` between that check and the write after it; a server that reads from a replica which
lags behind; people who move aliases by hand in MLflow's pages.

Source: Dijkstra, Cooperating Sequential Processes (1965), for Dekker's rule: first write, then
read.
"""

import contextlib
import os
import random
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import ModelError, QuartetError
from tasks.results.store import write_whole
from tasks.run.reporting import run_logger
from tasks.settings import Settings
from tasks.tracking.client import Tracker

HOLDER = "quartet.aliases.holder"
"""Of the tags that are marks; the whole of one ends with an id of its own."""

HOLD_SECONDS = 120.0
"""After which a mark that does not change is a dead process's."""
RENEW_SECONDS = 15.0
WAIT_SECONDS = 300.0
"""How long a process waits for its turn; longer than a dead process can hold it."""
POLL_SECONDS = 0.5


class Turn:
    """A process's turn to change a registered model; lasts as long as `extend` is called."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        """Say for which registered model; `take` waits for it."""
        self.tracker, self.name = tracker, name
        self.key = f"{HOLDER}.{uuid.uuid4().hex}"
        self._renewed = 0.0
        self._count = 0
        self._since: dict[tuple[str, str], float] = {}

    def take(self) -> None:
        """Wait until no other process has the turn, and have it.

        Raises:
            ModelError: Another has it for too long.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        told = marked = False
        while True:
            others = self._others()  # only a reading after the own mark counts
            if marked and not others:
                return
            if others and not told:
                told = True
                who = ", ".join(_names(others.values()))
                run_logger().info("waiting for %s to change the aliases of %s", who, self.name)
            if others and time.monotonic() > deadline:
                raise _busy(self.name, _names(others.values()))
            first = not others or self.key < min(others)
            if first and not marked:
                self._write()
                marked = True
                continue
            if first:
                self.extend()
            elif marked:
                self.give_back()
                marked = False
            time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))

    def extend(self) -> None:
        """Make sure, before a write, that the turn is still this process's.

        Raises:
            ModelError: It took so long that another may have it by now.
        """
        before = self._renewed
        if time.monotonic() - before > RENEW_SECONDS:
            self._write()
        if time.monotonic() - before > HOLD_SECONDS / 2:
            raise ModelError(
                f"MLflow at {self.tracker.uri} took more than {HOLD_SECONDS / 2:g} s for one step "
                f"of the change of {self.name}, so another process may be changing it by now; run "
                "it again, which finishes what was begun"
            )

    def give_back(self) -> None:
        """Remove the mark."""
        self.tracker.client.delete_registered_model_tag(self.name, self.key)

    def _write(self) -> None:
        started = time.monotonic()  # before the request: nobody has seen it earlier
        self._count += 1
        text = f"{socket.gethostname()} {os.getpid()} {self._count}"
        self.tracker.client.set_registered_model_tag(self.name, self.key, text)
        self._renewed = started

    def _others(self) -> dict[str, str]:
        """Marks of other processes that may be alive; dead ones are removed."""
        tags = self.tracker.client.get_registered_model(self.name).tags
        marks = {
            key: str(text) for key, text in tags.items()
            if key.startswith(f"{HOLDER}.") and key != self.key
        }  # fmt: skip
        now = time.monotonic()
        self._since = {mark: self._since.get(mark, now) for mark in marks.items()}
        for key, text in list(marks.items()):
            if now - self._since[key, text] > HOLD_SECONDS:
                self.tracker.client.delete_registered_model_tag(self.name, key)
                del marks[key]
        return marks


@contextlib.contextmanager
def taking_turns(settings: Settings, tracker: Tracker, name: str) -> Iterator[Turn]:
    """Have a registered model to oneself, among the processes of all machines.

    Raises:
        ModelError: Another process has it for too long.
        QuartetError: The home folder cannot be written.
    """
    stem = f"aliases-{sha256(name.encode()).hexdigest()[:16]}"
    folder = settings.root / "locks"
    with _locked(folder / f"{stem}.lock", name):
        turn = Turn(tracker, name)
        own = folder / f"{stem}.mark"
        if dead := _read_mark(own):
            tracker.client.delete_registered_model_tag(name, dead)
        write_whole(own, turn.key)
        try:
            turn.take()
            yield turn
        finally:
            with contextlib.suppress(Exception):  # the file names it, and it dies by itself
                turn.give_back()
                own.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    lock = FileLock(path, timeout=WAIT_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise _busy(name, ["another process of this home folder"]) from error
    except OSError as error:
        raise QuartetError(
            f"the lock {path} of the aliases of {name} cannot be written ({error}); give the home "
            "folder room and your account the right to write there"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _read_mark(path: Path) -> str:
    """The mark that a process which died with the file lock left; empty if it left none."""
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    return text if re.fullmatch(rf"{re.escape(HOLDER)}\.[0-9a-f]{{32}}", text) else ""


def _names(marks: Iterable[str]) -> list[str]:
    """Host and process of each mark."""
    return sorted(" ".join(mark.split()[:2])[:80] or "somebody" for mark in marks)


def _busy(name: str, who: Sequence[str]) -> ModelError:
    return ModelError(
        f"the aliases of {name} are being changed by {', '.join(who)}; two changes at once cannot "
        "both be right: try again in some minutes"
    )
