"""Backfill of MLflow from the store: what an outage kept from it, recorded afterwards.

The store is the truth and MLflow shows it. A published stage whose run lacks the tag
`quartet.published` is recorded from its folder, under the run's own name, parent and inputs where
a note of them was left, else with what the manifest says. To do it again does nothing.

What an earlier backfill found complete in the same MLflow is not asked about again: only what came
into the store, or was shown by a run, since.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from models.errors import QuartetError, StoreError
from models.rows import write_json
from tasks.results.manifests import find_manifest, list_published
from tasks.results.store import Manifest, Store
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.facts import HOST_TAG, headlines, judged_tags, show_totals
from tasks.tracking.outages import OutageNote, describe, drop_note, read_notes
from tasks.tracking.queries import with_names
from tasks.tracking.recording import page_folder, record_page, record_result, stage_parameters
from tasks.tracking.removal import runs_by_id, was_deleted


def sync(settings: Settings) -> list[str]:
    """Record what MLflow lacks, and say in one sentence each what was done.

    Raises:
        QuartetError: MLflow does not answer, stopped answering on the way, or refused something.
    """
    tracker = Tracker(settings)
    tracker.check()
    job = _Sync(settings, tracker)
    try:
        with _alone(settings.root):
            job.notes(parent="")
            job.store_against_mlflow(Seen(settings.root / "synced.json", tracker))
        if job.refused:
            raise next(iter(job.refused.values()))
    except QuartetError:
        raise
    except Exception as error:  # MLflow passes on errors of several libraries
        at = f" at {', '.join(job.refused)}" if job.refused else ""
        raise QuartetError(
            f"MLflow at {tracker.uri} failed in the middle of the backfill{at} ({describe(error)}) "
            f"after: {'; '.join(job.done) or 'nothing'}; fix it and run `quartet sync` again, "
            "which records what is left"
        ) from error
    return job.done


def deliver_notes(settings: Settings, tracker: Tracker, parent: str) -> list[str]:
    """Deliver the notes of one pipeline run's stages only."""
    if not any(_parent(note) == parent for note in read_notes(settings.root)):
        return []
    job = _Sync(settings, tracker)
    with _alone(settings.root):
        job.notes(parent=parent)
    left = [f"{name}: not recorded, {describe(error)}" for name, error in job.refused.items()]
    return job.done + left


def _alone(root: Path) -> FileLock:
    """Keep two of them from recording the same thing twice."""
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / "sync.lock")


def _parent(note: OutageNote) -> str:
    return note.tags.get("mlflow.parentRunId", "")


def _key(manifest: Manifest) -> str:
    """Of the note that a result has where MLflow missed it."""
    return f"{manifest.stage}-{manifest.digest}"


class Seen:
    """Until when what came into the store was seen to with an MLflow, in a file.

    Attributes:
        MARGIN: Seconds by which clocks, and a run's beginning and its end, may differ.
    """

    MARGIN = 86_400.0

    def __init__(self, path: Path, tracker: Tracker) -> None:
        made = tracker.client.get_experiment(tracker.experiment_id).creation_time
        self._path, self._mlflow = path, f"{tracker.uri} {tracker.experiment_id} {made}"
        self._tracker = tracker

    def until(self) -> float:
        """Seconds of the clock; 0 where nothing is known of this MLflow, or of an older copy."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            known = json.loads(self._path.read_bytes())
            last = dict(known["last"])
            there = {
                run.info.run_id: run.info.end_time for run in runs_by_id(self._tracker, [*last])
            }
            if known["mlflow"] == self._mlflow and there == last:
                return max(0.0, float(known["until"]) - self.MARGIN)
        return 0.0

    def write(self, until: float) -> None:
        """Note the time, and the run that ended last: an older copy of this MLflow lacks it."""
        here, order = [self._tracker.experiment_id], ["attributes.end_time DESC"]
        found = self._tracker.client.search_runs(here, max_results=1, order_by=order)
        last = {run.info.run_id: run.info.end_time for run in found}
        write_json(self._path, {"mlflow": self._mlflow, "until": until, "last": last})


class _Sync:
    def __init__(self, settings: Settings, tracker: Tracker) -> None:
        self.root = settings.root
        self.store = Store(settings.store)
        self.tracker = tracker
        self.done: list[str] = []
        self.refused: dict[str, Exception] = {}
        """By a note's key: what MLflow said against it."""

    @contextlib.contextmanager
    def _others_all_the_same(self, key: str) -> Iterator[None]:
        """Let what an MLflow that answers does not take keep nothing else from being recorded."""
        try:
            yield
        except Exception as error:  # MLflow passes on errors of several libraries
            if isinstance(error, QuartetError) or not self.tracker.reachable():
                raise
            self.refused[key] = error

    def notes(self, parent: str) -> None:
        """Deliver notes, only those of one parent's stages if it is named."""
        for note in read_notes(self.root):
            if parent and _parent(note) != parent:
                continue
            with self._others_all_the_same(note.key):
                self._deliver_result(note) if note.stage else self._deliver_end(note)

    def store_against_mlflow(self, seen: Seen) -> None:
        """Record each published stage that no run shows, whether a note tells of it or not."""
        since, now, whole = seen.until(), time.time(), True
        fresh = [manifest for _, manifest in list_published(self.store.root, since=since)]
        shown = self._shown_by_their_own(fresh)
        for manifest in fresh:
            key = _key(manifest)
            if manifest.digest in shown or key in self.refused or self._is_shown(manifest):
                continue
            with self._others_all_the_same(key):
                whole &= self._record(manifest, self._note_from(manifest))
        if since:  # evaluations of before that pipelines used since
            again = self._shown_since(since) - {manifest.digest for manifest in fresh}
            fresh += filter(None, (find_manifest(self.store.root, one) for one in sorted(again)))
        for manifest in fresh:
            with self._others_all_the_same(_key(manifest)):
                self._complete_parents(manifest)
        if whole and not self.refused:
            seen.write(now)

    def _shown_by_their_own(self, manifests: Sequence[Manifest]) -> set[str]:
        """Digests of results that the run that made them holds, or held until it was deleted."""
        made = {one.run_id: one.digest for one in manifests if one.run_id}
        return {
            made[run.info.run_id]
            for run in runs_by_id(self.tracker, sorted(made))
            if run.info.lifecycle_stage == "deleted"
            or run.data.tags.get("quartet.published") == made[run.info.run_id]
        }

    def _shown_since(self, since: float) -> set[str]:
        """Digests of the stages of runs that began since."""
        where = f"tags.`quartet.kind` = 'stage' and attributes.start_time >= {int(1000 * since)}"
        return {run.data.tags.get("quartet.digest", "") for run in self.tracker.runs(where)}

    def _deliver_result(self, note: OutageNote) -> None:
        try:
            manifest = Manifest.read(self.store.folder(note.stage, note.digest))
        except OSError:
            return  # not published yet: the run that computes it still writes
        if self._record(manifest, note):
            self._complete_parents(manifest)

    def _deliver_end(self, note: OutageNote) -> None:
        unfinished = self.tracker.status(note.run_id) in {"RUNNING", "SCHEDULED"}
        if unfinished and not self._is_elsewhere(note.run_id):
            self.tracker.finish(note.run_id, note.status)
            self.done.append(f"{note.name}: marked as {note.status} in MLflow run {note.run_id}")
        drop_note(self.root, note.key)

    def _is_elsewhere(self, run_id: str) -> bool:
        """Whether another host works on a run since, which then ends it itself."""
        here = socket.gethostname()
        return self.tracker.tags(run_id).get(HOST_TAG, here) != here

    def _record(self, manifest: Manifest, note: OutageNote) -> bool:
        """Bring one result into MLflow; False if its folder is damaged, with a message."""
        title = f"{manifest.stage} {manifest.digest[:12]}"
        try:
            self.store.find(manifest.stage, manifest.digest)  # verifies
        except StoreError as error:
            self.done.append(f"{title}: not recorded, {error}")
            return False
        run_id, what = self._run(manifest, note)
        parent = self._known(_parent(note))
        points = record_result(
            self.tracker,
            run_id,
            manifest,
            self.store.folder(manifest.stage, manifest.digest),
            parent=parent,
            page=page_folder(self.root, manifest.stage, manifest.digest),
            repair=True,
        )
        if parent:
            show_totals(self.tracker, parent)
        drop_note(self.root, note.key)
        self.done.append(f"{title}: recorded in {what} MLflow run {run_id}, {points} points added")
        return True

    def _run(self, manifest: Manifest, note: OutageNote) -> tuple[str, str]:
        """The run that began to show a result, or a new one."""
        parent = _parent(note)
        candidates = [note.run_id, manifest.run_id]
        if parent:  # one that was opened without the answer ever arriving
            tags = {"quartet.digest": manifest.digest, "mlflow.parentRunId": parent}
            candidates += self.tracker.find_tagged(tags, status="RUNNING")
        for run_id in candidates:
            if run_id and self.tracker.status(run_id) is not None:
                self.tracker.log(run_id, tags=with_names(note.tags))
                return run_id, "its"
        parameters = stage_parameters(manifest.seed, manifest.parameters)
        return self.tracker.start_run(note.name, parameters=parameters, tags=note.tags), "a new"

    def _known(self, run_id: str) -> str:
        """A run that MLflow has; empty for none and for one that somebody deleted."""
        return run_id if run_id and self.tracker.status(run_id) is not None else ""

    def _is_shown(self, manifest: Manifest) -> bool:
        """Whether another run than its own holds this result, or held it until it was deleted."""
        there = self.tracker.find_published(manifest.digest) is not None
        return there or was_deleted(self.tracker, manifest.digest)

    def _note_from(self, manifest: Manifest) -> OutageNote:
        tags = {
            "quartet.kind": "stage",
            "quartet.stage": manifest.stage,
            "quartet.digest": manifest.digest,
            "quartet.seed": str(manifest.seed),
            "quartet.backfilled": "true",
        }
        for role, digest in manifest.inputs.items():
            tags[f"input.{role}"] = digest
            if (made := find_manifest(self.store.root, digest)) is not None:
                tags[f"input.{role}"] = f"{made.stage}/{digest}"
                tags[f"input.{role}.run_id"] = made.run_id
        tags |= judged_tags(manifest.stage, manifest.inputs)
        return OutageNote(
            name=f"{manifest.stage}-{manifest.digest[:12]}",
            run_id=manifest.run_id,
            status="FINISHED",
            stage=manifest.stage,
            digest=manifest.digest,
            tags=tags,
        )

    def _complete_parents(self, manifest: Manifest) -> None:
        """Log an evaluation's verdict on each pipeline run that it judged and that lacks it."""
        final = headlines(manifest, self.store.folder(manifest.stage, manifest.digest))
        if not final:
            return
        page = page_folder(self.root, manifest.stage, manifest.digest)
        for run_id in self.tracker.find_tagged({"quartet.digest": manifest.digest}):
            parent = self._known(self.tracker.tags(run_id).get("mlflow.parentRunId", ""))
            if not parent:
                continue
            there = self.tracker.metrics(parent)
            lacking = {name: value for name, value in final.items() if name not in there}
            if not lacking:
                continue
            record_page(self.tracker, page, parent=parent)
            self.tracker.log(parent, metrics=lacking)
            self.done.append(f"{manifest.stage}: its verdict put on the pipeline's run {parent}")
