"""The pipeline runs that people name: by name, by id or by its beginning.

MLflow is asked for what has that name, never for all its runs.
"""

import difflib
import itertools
import re
from collections.abc import Sequence
from typing import Any

from models.errors import ParameterError
from tasks.tracking.client import Tracker
from tasks.tracking.queries import PARENTS

MOST = 7
"""Runs of one comparison: more colours cannot be told apart."""

SHORTEST = 6
"""Characters of an id that may stand for the whole."""

NEAR = 5
"""Names that an error lists."""

NEWEST = 100
"""Runs among which names that are near are looked for."""


def check_count(names: Sequence[str]) -> None:
    """Refuse a number of runs that no comparison has.

    Raises:
        ParameterError: It is below two or above seven.
    """
    if not 2 <= len(names) <= MOST:
        raise ParameterError(
            f"got {len(names)} {'run' if len(names) == 1 else 'runs'} to compare, wanted 2 to "
            f"{MOST}; name each by its name or id"
        )


def find_runs(tracker: Tracker, names: Sequence[str]) -> list[Any]:
    """Find pipeline runs by name, by id, or by the first six or more characters of it.

    Raises:
        ParameterError: Too few, too many or the same twice, or a name of no run or of several; the
            message lists what is near.
    """
    check_count(names)
    found = [find_run(tracker, name) for name in names]
    ids = [run.info.run_id for run in found]
    for name, run_id in zip(names, ids, strict=True):
        if ids.count(run_id) > 1:
            raise ParameterError(f"{name!r} is run {run_id[:8]}, which is named twice; name others")
    return found


def find_run(tracker: Tracker, name: str) -> Any:
    """Find a pipeline run by name, by id, or by the first six or more characters of it.

    Raises:
        ParameterError: There is none, or more than one; the message lists what is near.
    """
    named = _named(tracker, name)
    if len(named) == 1:
        return named[0]
    if named:
        more = " and more" if len(named) > NEAR else ""
        raise ParameterError(
            f"several runs are called {name!r}: give the id of one, {_listed(named)}{more}"
        )
    known = list(itertools.islice(tracker.runs(PARENTS, page=NEWEST), NEWEST))

    def likeness(run: Any) -> float:
        texts = (run.info.run_name or "", run.info.run_id[: max(len(name), SHORTEST)])
        return max(difflib.SequenceMatcher(None, name, text).ratio() for text in texts)

    near = _listed(sorted(known, key=likeness, reverse=True))
    raise ParameterError(
        f"no pipeline run is called {name!r}, by name or by the first {SHORTEST} or more "
        f"characters of its id; " + (f"near are {near}" if near else "there is none yet")
    )


def _named(tracker: Tracker, name: str) -> list[Any]:
    """The runs of a name, else of an id that begins so; a few of very many."""
    quote = '"' if "'" in name else "'"  # MLflow knows no escape
    where = [f"attributes.run_name = {quote}{name}{quote}"] * (quote not in name)
    if re.fullmatch(f"[0-9a-f]{{{SHORTEST},32}}", name):
        where.append(f"attributes.run_id LIKE '{name}%'")
    for one in where:
        found = tracker.runs(f"{one} and {PARENTS}", page=NEAR + 1)
        if named := list(itertools.islice(found, NEAR + 1)):
            return named
    return []


def _listed(runs: Sequence[Any]) -> str:
    return ", ".join(f"{run.info.run_name} ({run.info.run_id[:8]})" for run in runs[:NEAR])
