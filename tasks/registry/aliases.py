"""The aliases of a registered model, changed by one at a time and never by halves, and who did it.

    challenger   the newest version
    champion     the one in use; overwritten, never deleted, so there is one at all times
    previous     the champion before; what a rollback goes back to

MLflow has no compare-and-swap. What stands in for it:

- Processes that share a home folder: a file lock. Exact.
- Machines that share only the MLflow server: a tag of the registered model, taken by Fischer's
  algorithm: see it free, write one's own mark, wait longer than a write may take, and have it only
  if the mark still stands. A process times its own write and gives up if that took longer than the
  wait, so a slow server costs a promotion and never lets two in. Not covered: a process that is
  frozen for more than a minute while it holds the tag, for the tag of a dead one must expire;
  machines whose clocks differ by as much; and people who move aliases by hand in MLflow's pages.

Several aliases move by a journal: the tag `quartet.aliases` says where they shall point, then they
are set, then the tag goes. Who finds a journal left by a crash finishes it first.

Source: Lamport, A Fast Mutual Exclusion Algorithm (1987), algorithm 1, due to Fischer.
"""

import contextlib
import datetime
import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from filelock import FileLock, Timeout

from models.errors import ModelError, QuartetError
from tasks.settings import Settings
from tasks.tracking.client import Tracker

CHAMPION = "champion"
PREVIOUS = "previous"

JOURNAL = "quartet.aliases"
HOLDER = "quartet.aliases.holder"

WRITE_SECONDS = 2.0
"""How long a write of the holder's mark may take, and so how long to wait after it."""
HOLD_SECONDS = 60.0
"""After which a mark is a dead process's."""
LOCK_SECONDS = 60.0


def read_aliases(tracker: Tracker, name: str) -> dict[str, str]:
    """Give each alias's version.

    Raises:
        ModelError: MLflow has no such registered model or does not answer.
    """
    aliases = _registered_model(tracker, name).aliases
    return {alias: str(version) for alias, version in aliases.items()}


def _registered_model(tracker: Tracker, name: str) -> Any:
    try:
        tracker.require()
        return tracker.client.get_registered_model(name)
    except Exception as error:  # MLflow passes on errors of several libraries
        raise ModelError(
            f"MLflow at {tracker.uri} does not give the registered model {name!r} ({error}); "
            "choose one that its Models page shows"
        ) from error


@contextlib.contextmanager
def changing_aliases(settings: Settings, tracker: Tracker, name: str) -> Iterator[None]:
    """Have a registered model's aliases to oneself; what a crash left undone is done first.

    What was read before must be read again inside.

    Raises:
        ModelError: Somebody else is changing them, or MLflow fails; each write can be repeated.
    """
    path = settings.root / "locks" / f"aliases-{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=LOCK_SECONDS), _held(tracker, name):
            if left := _journal(tracker, name):
                _write(tracker, name, left)
            yield
    except Timeout as error:
        raise _busy(name, "another process of this home folder") from error
    except QuartetError:
        raise
    except Exception as error:  # MLflow passes on errors of several libraries
        raise ModelError(
            f"MLflow at {tracker.uri} failed while the aliases of {name} were changed ({error}); "
            "there is a champion all the same if there was one: run it again, which finishes what "
            "was begun"
        ) from error


def move_aliases(tracker: Tracker, name: str, aliases: Mapping[str, str]) -> None:
    """Point aliases at versions, in this order: all or, after a crash, all at the next change."""
    tracker.client.set_registered_model_tag(name, JOURNAL, json.dumps(dict(aliases)))
    _write(tracker, name, aliases)


def repair_aliases(settings: Settings, tracker: Tracker, name: str) -> None:
    """Do what a crash left undone, if it left anything.

    Raises:
        ModelError: As `changing_aliases`.
    """
    if _journal(tracker, name):
        with changing_aliases(settings, tracker, name):
            pass


def _journal(tracker: Tracker, name: str) -> dict[str, str]:
    """What a crash left undone: version by alias."""
    text = _registered_model(tracker, name).tags.get(JOURNAL)
    return dict(json.loads(text)) if text else {}


def _write(tracker: Tracker, name: str, aliases: Mapping[str, str]) -> None:
    for alias, version in aliases.items():
        tracker.client.set_registered_model_alias(name, alias, version)
    tracker.client.delete_registered_model_tag(name, JOURNAL)


@contextlib.contextmanager
def _held(tracker: Tracker, name: str) -> Iterator[None]:
    """Hold the mark that machines see who share only the server; a local database has no others."""
    if not tracker.uri.startswith("http"):
        yield
        return
    mark = f"{uuid.uuid4().hex} {time.time():.0f} {socket.gethostname()} {os.getpid()}"
    before = time.monotonic()
    holder = _holder(tracker, name)
    if holder:
        raise _busy(name, " ".join(holder.split()[2:]))
    tracker.client.set_registered_model_tag(name, HOLDER, mark)
    late = time.monotonic() - before > WRITE_SECONDS
    try:
        if late:
            raise ModelError(
                f"MLflow at {tracker.uri} took more than {WRITE_SECONDS:g} s for one tag, so "
                f"nobody can be sure to change the aliases of {name} alone; try again when it is "
                "less busy"
            )
        time.sleep(WRITE_SECONDS)
        holder = _holder(tracker, name)
        if holder != mark:
            raise _busy(name, " ".join(holder.split()[2:]) or "somebody")
        yield
    finally:
        with contextlib.suppress(Exception):  # it expires
            if _holder(tracker, name) == mark:
                tracker.client.delete_registered_model_tag(name, HOLDER)


def _holder(tracker: Tracker, name: str) -> str:
    mark = str(tracker.client.get_registered_model(name).tags.get(HOLDER, ""))
    if mark and time.time() - float(mark.split()[1]) > HOLD_SECONDS:
        return ""
    return mark


def _busy(name: str, who: str) -> ModelError:
    return ModelError(
        f"the aliases of {name} are being changed by {who}; two changes at once cannot both be "
        "right: try again in a minute"
    )


def set_tags(
    tracker: Tracker, name: str, version: str, prefix: str, tags: Mapping[str, str]
) -> None:
    """Write tags below a prefix, in their order; the one without a name is the prefix itself."""
    for key, value in tags.items():
        full = f"{prefix}.{key}" if key else prefix
        tracker.client.set_model_version_tag(name, version, full, value)


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def user() -> str:
    """Name of whoever runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"
