"""Garbage: never anything that something refers to, and everything that nothing does."""

import functools
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from models.errors import QuartetError
from tasks.machine.liveness import announced
from tasks.results.store import Manifest, Store, list_files, write_manifest
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import OutageNote, drop_note, write_note
from tasks.tracking.recording import page_folder
from tasks.upkeep import references, sweeping
from tasks.upkeep.garbage import find_garbage, last_found, remove_garbage

OLD = 30.0


def digest(number: int) -> str:
    return f"{number:064x}"


class Place:
    """A store and an MLflow to fill."""

    def __init__(self) -> None:
        self.settings = load_settings()
        self.store = Store(self.settings.store)
        self.tracker = Tracker(self.settings)

    @functools.cached_property
    def deleted(self) -> str:
        """A run that somebody has deleted."""
        run_id = self.run({})
        self.tracker.client.delete_run(run_id)
        return run_id

    def publish(
        self, number: int, *inputs: int, stage: str = "sft", run_id: str | None = None
    ) -> Path:
        """Publish a stage; its run was deleted, unless another is named."""
        run_id = self.deleted if run_id is None else run_id
        out = self.store.writing(stage, digest(number))
        (out / "weights.bin").write_bytes(b"\x00" * 1000)
        manifest = Manifest(
            stage=stage, digest=digest(number), seed=0, parameters={},
            inputs={f"role{i}": digest(one) for i, one in enumerate(inputs)},
            libraries={}, code="", run_id=run_id, seconds=0.0, metrics={}, files=list_files(out),
        )  # fmt: skip
        write_manifest(out, manifest)
        self.store.publish(out, stage, digest(number))
        return self.store.folder(stage, digest(number))

    def beside(self, number: int, suffix: str, *, days: float, stage: str = "sft") -> Path:
        """Leave unfinished work that last changed some days ago."""
        folder = self.store.root / stage / f"{digest(number)}.{suffix}"
        folder.mkdir(parents=True)
        (folder / "step.bin").write_bytes(b"\x00" * 10)
        then = time.time() - days * 86400
        for path in (folder / "step.bin", folder):
            os.utime(path, (then, then))
        return folder

    def run(self, tags: Mapping[str, str], *, parent: str = "", status: str = "FINISHED") -> str:
        """Record a run."""
        more = {"mlflow.parentRunId": parent} if parent else {}
        run_id = self.tracker.start_run("run", parameters={}, tags={**tags, **more})
        if status != "RUNNING":
            self.tracker.client.set_terminated(run_id, status=status)
        return run_id

    def found(self, days: float = 7.0) -> dict[str, str]:
        """Name of every folder that can go, and why."""
        items = find_garbage(self.settings, older_than_days=days).items
        return {item.path.name: item.why for item in items}

    def clean(self, days: float = 7.0) -> set[str]:
        """Remove what can go and name it."""
        items = remove_garbage(self.settings, find_garbage(self.settings, older_than_days=days))
        return {item.path.name for item in items}

    def left(self) -> set[str]:
        """Names of the folders in the store."""
        return {path.name for path in self.store.root.glob("*/*") if path.is_dir()}


@pytest.fixture
def place(home: Path) -> Place:
    return Place()


def test_what_nothing_refers_to_goes_and_frees_its_size(place: Place) -> None:
    folder = place.publish(1)
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    found = find_garbage(place.settings, older_than_days=7.0)
    assert [(one.stage, one.digest, one.size) for one in found.items] == [("sft", digest(1), size)]
    at, noted = last_found(place.settings) or (0.0, 0)
    assert noted == size
    assert time.time() - at < 600
    assert folder.is_dir()  # found is not removed
    page = page_folder(place.settings.root, "sft", digest(1))
    page.mkdir(parents=True)
    assert place.clean() == {digest(1)}
    assert not page.exists()
    assert place.left() == set()
    assert place.found() == {}


def by_version(place: Place) -> None:
    client = place.tracker.client
    client.create_registered_model("toy")
    client.create_model_version("toy", "file:///nowhere", tags={"quartet.digest": digest(3)})


def by_child(place: Place) -> None:
    parent = place.run({"quartet.kind": "pipeline"}, status="FAILED")
    place.run({"quartet.digest": digest(3)}, parent=parent)


def by_run_of_another_experiment(place: Place) -> None:
    other = place.tracker.client.create_experiment("another")
    run = place.tracker.client.create_run(other, tags={"quartet.digest": digest(3)})
    place.tracker.client.set_terminated(run.info.run_id)


def by_input_tag(place: Place) -> None:
    place.run({"input.actor": f"sft/{digest(3)}"}, status="KILLED")


def by_suspended(place: Place) -> None:
    parent = place.run({"quartet.kind": "pipeline"}, status="SCHEDULED")
    place.run({"quartet.digest": digest(3), "quartet.reused": "true"}, parent=parent)


def by_note(place: Place) -> None:
    tags = {"input.base": f"sft/{digest(3)}"}
    write_note(place.settings.root, OutageNote(name="n", run_id="x", status="FAILED", tags=tags))


def by_note_of_result(place: Place) -> None:
    note = OutageNote(name="n", run_id="", status="FINISHED", stage="sft", digest=digest(3))
    write_note(place.settings.root, note)


@pytest.mark.parametrize(
    "refer",
    [
        by_version,
        by_child,
        by_run_of_another_experiment,
        by_input_tag,
        by_suspended,
        by_note,
        by_note_of_result,
    ],
)
def test_what_is_referred_to_stays_with_all_it_was_made_from(
    place: Place, refer: Callable[[Place], None]
) -> None:
    place.publish(1)
    place.publish(2, 1, stage="reward")
    place.publish(3, 2)
    place.publish(4, 3)  # made from it, but wanted by nobody
    refer(place)
    assert place.clean() == {digest(4)}
    assert place.left() == {digest(1), digest(2), digest(3)}


def test_a_deleted_pipeline_refers_to_nothing_though_its_children_are_left(place: Place) -> None:
    parent = place.run({"quartet.kind": "pipeline"})
    child = place.run({"quartet.digest": digest(1)}, parent=parent)
    place.publish(1, run_id=child)
    assert place.found() == {}
    place.tracker.client.delete_run(parent)
    assert set(place.found()) == {digest(1)}


def test_a_deleted_version_refers_to_nothing(place: Place) -> None:
    place.publish(3)
    by_version(place)
    assert place.found() == {}
    place.tracker.client.delete_model_version("toy", "1")
    assert set(place.found()) == {digest(3)}


def test_a_held_lock_keeps_its_stage_and_what_it_was_made_from(place: Place) -> None:
    place.publish(1)
    place.publish(2, 1)
    place.publish(3)
    old = place.beside(4, "partial", days=OLD)
    with other_process_holds(
        [place.store.root / "sft" / f"{digest(2)}.lock", old.with_suffix(".lock")]
    ):
        assert place.clean() == {digest(3)}
    assert place.clean() == {digest(1), digest(2), f"{digest(4)}.partial"}


def test_unfinished_work_goes_when_it_is_old_and_no_run_goes_on_from_it(place: Place) -> None:
    place.beside(1, "partial", days=OLD)
    place.beside(2, "partial", days=1.0)
    place.beside(3, "partial", days=OLD)
    place.beside(4, "writing", days=OLD)
    place.beside(5, "writing", days=1.0)
    place.publish(6, run_id="")
    place.beside(6, "partial", days=OLD)
    place.run({"quartet.digest": digest(3)}, status="FAILED")
    place.run({"quartet.digest": digest(6)})
    assert place.found() == {
        f"{digest(1)}.partial": "no run resumes from it",
        f"{digest(4)}.writing": "its writer is gone",
        f"{digest(6)}.partial": "its stage has finished since",
    }
    assert set(place.found(days=0.5)) == {
        *(f"{digest(one)}.partial" for one in (1, 2, 6)),
        *(f"{digest(one)}.writing" for one in (4, 5)),
    }


def test_age_is_that_of_the_newest_file(place: Place) -> None:
    folder = place.beside(1, "partial", days=OLD)
    inner = folder / "checkpoints"
    inner.mkdir()
    (inner / "new.bin").write_bytes(b"1")
    os.utime(folder, (1.0, 1.0))
    assert place.found() == {}


def test_a_live_pipeline_keeps_every_published_stage(place: Place) -> None:
    place.publish(1)
    place.beside(2, "partial", days=OLD)
    parent = place.run({"quartet.kind": "pipeline"}, status="RUNNING")
    with announced(place.settings, parent, None):
        found = find_garbage(place.settings, older_than_days=7.0)
        assert [item.path.name for item in found.items] == [f"{digest(2)}.partial"]
        assert "run" in found.notices[0]
        assert "quartet sync" in found.notices[0]
    place.tracker.client.set_terminated(parent)
    assert digest(1) in place.found()


def test_a_run_that_was_killed_here_blocks_nothing_but_one_elsewhere_does(place: Place) -> None:
    place.publish(1)
    parent = place.run({"quartet.kind": "pipeline"}, status="RUNNING")
    assert place.found() == {}  # running, as far as anybody knows
    note = place.settings.root / "runs" / f"{parent}.json"
    note.parent.mkdir()
    note.write_text(json.dumps({"host": socket.gethostname()}))
    assert set(place.found()) == {digest(1)}
    note.write_text(json.dumps({"host": "another-machine"}))
    assert place.found() == {}


def test_a_stage_that_another_mlflow_recorded_is_kept_and_said(place: Place) -> None:
    place.publish(1)
    place.publish(2, 1, run_id="0" * 32)
    place.publish(3)
    found = find_garbage(place.settings, older_than_days=7.0)
    assert [item.digest for item in found.items] == [digest(3)]
    assert "kept 1 stages" in found.notices[0]


def test_a_stage_that_names_no_run_is_kept_for_another_mlflow_may_know_it(place: Place) -> None:
    place.publish(1)
    place.publish(2, 1, run_id="")  # made while MLflow was away
    place.publish(3)
    assert place.clean() == {digest(3)}


def test_a_note_that_is_delivered_while_references_are_read_still_refers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.publish(3)
    by_note_of_result(place)
    ask = place.tracker.runs

    def then_deliver(*where: str, **query: Any) -> Iterator[Any]:
        yield from ask(*where, **query)  # the answer is from before the delivery
        drop_note(place.settings.root, f"sft-{digest(3)}")

    monkeypatch.setattr(place.tracker, "runs", then_deliver)
    assert references.References(place.settings, place.tracker).name(digest(3))


def test_mlflow_is_asked_about_no_stage_that_is_known_to_be_wanted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        place.publish(number, *([number - 1] if number > 1 else []))
    place.publish(6)
    place.run({"quartet.kind": "stage", "quartet.digest": digest(5)})
    asked = []
    ask = references.References.name

    def name(self: references.References, one: str) -> bool:
        asked.append(one)
        return ask(self, one)

    monkeypatch.setattr(references.References, "name", name)
    assert set(place.found()) == {digest(6)}
    assert asked == [digest(5), digest(6)]


def by_older_child(place: Place) -> None:
    """A run of before runs listed what they name."""
    parent = place.run({"quartet.kind": "pipeline"})
    tags = {"quartet.kind": "stage", "quartet.digest": digest(3), "mlflow.parentRunId": parent}
    run = place.tracker.client.create_run(place.tracker.experiment_id, tags=tags)
    place.tracker.client.set_terminated(run.info.run_id)


def by_input_of_a_version(place: Place) -> None:
    client = place.tracker.client
    client.create_registered_model("toy")
    tags = {"input.actor": digest(3), "quartet.digest": digest(9)}
    client.create_model_version("toy", "file:///nowhere", tags=tags)


@pytest.mark.parametrize("refer", [by_older_child, by_input_of_a_version])
def test_older_runs_and_inputs_of_versions_refer_too(
    place: Place, refer: Callable[[Place], None]
) -> None:
    place.publish(3)
    place.publish(4)
    refer(place)
    assert place.clean() == {digest(4)}


def test_a_run_of_somebody_else_blocks_nothing(place: Place) -> None:
    place.publish(1)
    other = place.tracker.client.create_experiment("another")
    place.tracker.client.create_run(other, tags={})  # runs for ever
    assert set(place.found()) == {digest(1)}


def test_what_cannot_be_read_or_is_not_ours_is_left_alone(place: Place, tmp_path: Path) -> None:
    (place.publish(1) / "MANIFEST.json").write_text("{")
    strange = place.store.root / "sft" / "notes"
    strange.mkdir()
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (place.store.root / "sft" / digest(9)).symlink_to(outside)
    assert place.clean() == set()
    assert strange.is_dir()
    assert (outside / "precious").exists()
    assert "cannot be read" in find_garbage(place.settings, older_than_days=7.0).notices[0]


def test_nothing_is_removed_when_mlflow_is_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.publish(1)
    found = find_garbage(place.settings, older_than_days=7.0)
    monkeypatch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody
    for act in (
        lambda: find_garbage(load_settings(), older_than_days=7.0),
        lambda: remove_garbage(load_settings(), found),
    ):
        with pytest.raises(QuartetError, match="does not answer"):
            act()
    assert place.left() == {digest(1)}


def test_what_came_into_use_after_it_was_shown_stays(place: Place) -> None:
    place.publish(1)
    place.publish(2)
    found = find_garbage(place.settings, older_than_days=7.0)
    assert len(found.items) == 2
    place.run({"quartet.digest": digest(1)})
    assert [item.digest for item in remove_garbage(place.settings, found)] == [digest(2)]
    assert place.left() == {digest(1)}


def test_what_was_not_shown_is_not_removed(place: Place) -> None:
    place.publish(1)
    found = find_garbage(place.settings, older_than_days=7.0)
    place.publish(2)
    remove_garbage(place.settings, found)
    assert place.left() == {digest(2)}


def test_a_removal_that_was_cut_off_is_finished_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.publish(1)

    def dies(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweeping.shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            place.clean()
    assert place.left() == {f"{digest(1)}.removed"}
    assert place.store.find("sft", digest(1)) is None  # whole or absent
    assert place.found() == {f"{digest(1)}.removed": "its removal was cut off"}
    assert place.clean() == {f"{digest(1)}.removed"}
    assert place.left() == set()


@pytest.mark.parametrize("seed", range(8))
def test_random_stores_lose_exactly_what_cannot_be_reached(place: Place, seed: int) -> None:
    """Against a slow oracle: an edge matrix, closed by repetition."""
    luck = random.Random(seed)
    count = 14
    edges = {
        number: luck.sample(range(number), k=min(number, luck.randrange(3)))
        for number in range(count)
    }
    for number, inputs in edges.items():
        place.publish(number, *inputs, stage=luck.choice(("sft", "reward", "ppo")))
    roots = luck.sample(range(count), k=luck.randrange(4))
    for root in roots:
        place.run({"quartet.digest": digest(root)})
    reach = set(roots)
    for _ in range(count):
        reach |= {inner for number in reach for inner in edges[number]}
    wanted = {digest(number) for number in reach}
    assert place.clean() == {digest(number) for number in range(count)} - wanted
    assert place.left() == wanted
    for path in place.store.root.glob("*/*/MANIFEST.json"):
        place.store.find(path.parent.parent.name, path.parent.name)  # verifies


def other_process_holds(locks: Sequence[Path]) -> "Held":
    return Held(locks)


class Held:
    """Locks that another process holds."""

    def __init__(self, locks: Collection[Path]) -> None:
        self.locks = [str(path) for path in locks]

    def __enter__(self) -> None:
        program = (
            "import sys, filelock\n"
            "held = [filelock.FileLock(path) for path in sys.argv[1:]]\n"
            "[lock.acquire() for lock in held]\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *self.locks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def test_locks_are_given_back(place: Place) -> None:
    place.publish(1)
    place.publish(2, run_id="0" * 32)
    place.clean()
    for number in (1, 2):
        with FileLock(place.store.root / "sft" / f"{digest(number)}.lock", timeout=0):
            pass


def test_iteration_over_many_batches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "BATCH", 2)
    for number in range(5):
        place.publish(number, *range(number))
    assert len(place.clean()) == 5
    assert place.left() == set()


def test_a_stage_and_its_leftovers_go_together(place: Place) -> None:
    place.publish(1)
    names = {digest(1), *(f"{digest(1)}.{kind}" for kind in ("partial", "writing", "removed"))}
    for kind in ("partial", "writing", "removed"):
        place.beside(1, kind, days=OLD)
    assert place.clean() == names
    assert place.left() == set()


def test_caches_go_by_age_alone(place: Place) -> None:
    folders = {}
    for number, (kind, days) in enumerate([("tokens", 8.0), ("tokens", 6.0), ("other", 8.0)]):
        folder = folders[number] = place.settings.cache / kind / digest(number)
        folder.mkdir(parents=True)
        (folder / "train.tokens").write_bytes(b"\x00" * 10)
        then = time.time() - days * 86400
        for path in (folder / "train.tokens", folder):
            os.utime(path, (then, then))
    [item] = find_garbage(place.settings, older_than_days=7.0).items
    assert (item.path, item.what, item.size) == (folders[0], "texts as tokens", 10)
    assert place.clean() == {digest(0)}
    assert [folder.exists() for folder in folders.values()] == [False, True, True]


def test_cache_that_was_used_meanwhile_stays(place: Place) -> None:
    folder = place.settings.cache / "tokens" / digest(1)
    folder.mkdir(parents=True)
    file = folder / "train.tokens"
    file.write_bytes(b"")
    for path in (file, folder):
        os.utime(path, (0, 0))
    found = find_garbage(place.settings, older_than_days=7.0)
    os.utime(file)  # as a run does that reads it
    assert remove_garbage(place.settings, found) == []
    assert file.exists()
