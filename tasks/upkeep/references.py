"""What refers to published stages: the registry, MLflow's runs, notes that wait, running pipelines.

Read for `quartet gc`, so in doubt something counts as referred to. A stage is referred to by the
run that made it, so MLflow is asked which runs somebody has deleted, and then only about the stages
that those made: one digest at a time, by the tag that lists what a run names. Versions, and runs
that are older than that tag, are read whole, if any stage is asked about.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from models.errors import QuartetError
from tasks.machine.liveness import is_dead, runs_folder
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import describe, read_notes
from tasks.tracking.queries import BELOW, NAMES, named_digests, tagged
from tasks.tracking.removal import deleted_runs, runs_by_id

OLDER = tuple(
    f"tags.`{NAMES}` IS NULL and tags.`quartet.kind` {kind}"
    for kind in ("IS NULL", *(f"= '{one}'" for one in BELOW))
)
"""Filters for runs that may name digests without listing them; runs of flows name none."""

ASKED = 20
"""Runs that are looked at together; nearly always the first one counts."""


class References:
    """What something outside the store names, and who runs.

    Attributes:
        uri: Of the MLflow that was asked.
        running: Names of running pipeline runs.
        noted: Digests that notes name, which wait for `quartet sync`.
        experiments: Ids of all experiments.
        deleted: Ids of runs that somebody deleted, and of those below them.
    """

    def __init__(self, settings: Settings, tracker: Tracker) -> None:
        """Read what is to be read at once.

        Raises:
            QuartetError: MLflow does not answer, or not to the end.
        """
        # First: a run that ends meanwhile, or a note that is delivered, has then left its tags.
        notes = {path.stem: is_dead(path) for path in sorted(runs_folder(settings).glob("*.json"))}
        self._tracker, self.uri = tracker, tracker.uri
        self._named = set[str]()
        for note in read_notes(settings.root):
            self._named |= named_digests(note.tags) | ({note.digest} if note.digest else set())
        self.noted = frozenset(self._named)
        tracker.check()
        with self.asking():
            self.experiments = tracker.experiments()
            self.running = self._find_running(notes)
            self.deleted = frozenset(self._find_deleted())

    def name(self, digest: str) -> bool:
        """Whether a run that counts, a version or a note names a digest; asked once if so.

        Raises:
            QuartetError: MLflow does not answer.
        """
        if digest in self._named or digest in self._named_without_list:
            return True
        with self.asking():
            where = f"tags.`{NAMES}` LIKE '%{digest}%'"
            if next(self._runs(where, ASKED), None) is not None:
                self._named.add(digest)
        return digest in self._named

    def never_had(self, run_ids: Sequence[str]) -> set[str]:
        """Those of some runs that MLflow neither has nor had.

        Raises:
            QuartetError: MLflow does not answer.
        """
        with self.asking():
            return set(run_ids) - {
                str(run.info.run_id) for run in runs_by_id(self._tracker, run_ids)
            }

    @functools.cached_property
    def _named_without_list(self) -> frozenset[str]:
        """What versions name, and runs that do not list it."""
        found = set[str]()
        with self.asking():
            for where in OLDER:
                for run in self._runs(where):
                    found |= named_digests(run.data.tags)
            for version in self._tracker.versions():
                found |= named_digests(version.tags)
        return frozenset(found)

    def _find_deleted(self) -> Iterator[str]:
        """Runs that somebody deleted, and those below them."""
        for run in deleted_runs(self._tracker):
            yield str(run.info.run_id)
            if run.data.tags.get("quartet.kind", "") not in BELOW:
                below = tagged({"mlflow.parentRunId": str(run.info.run_id)})
                for child in self._tracker.runs(below, experiments=self.experiments):
                    yield str(child.info.run_id)

    def _runs(self, where: str, page: int = 1000) -> Iterator[Any]:
        """Runs of all experiments, but for those below a run that somebody deleted."""
        for run in self._tracker.runs(where, experiments=self.experiments, page=page):
            if str(run.info.run_id) not in self.deleted:
                yield run

    def _find_running(self, notes: dict[str, bool]) -> tuple[str, ...]:
        """Runs of live processes, and those that another machine may still compute."""
        found = self._tracker.runs("attributes.status = 'RUNNING'", experiments=self.experiments)
        names = {
            str(run.info.run_id): str(run.info.run_name)
            for run in found
            if run.data.tags.get("quartet.kind", "stage") not in BELOW  # or a guest of the server
        }
        alive = [one for one, dead in notes.items() if not dead]
        open_runs = [one for one in names if not notes.get(one)]
        known = {one: names.get(one) or self._tracker.run_name(one) or one for one in alive}
        return tuple(dict.fromkeys([*known.values(), *(names[one] for one in open_runs)]))

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # MLflow passes on errors of several libraries
            raise QuartetError(
                f"MLflow at {self._tracker.uri} did not tell what is referred to "
                f"({describe(error)}), and nothing is removed without knowing it; repair it and "
                "try again"
            ) from error
