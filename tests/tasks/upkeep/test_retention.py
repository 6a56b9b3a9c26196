"""Old weights go, and never one that somebody needs; what was found out stays."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.errors import StoreError
from tasks.registry.lineage import ancestry
from tasks.results.digests import DIGEST
from tasks.results.store import Manifest, Store, list_files, write_manifest
from tasks.run.exchange import fetch_published, open_published
from tasks.settings import load_settings
from tasks.tracking.client import PUBLISHED, Tracker
from tasks.tracking.facts import judged_tags
from tasks.tracking.removal import weights_removed
from tasks.tracking.sync import sync
from tasks.upkeep.garbage import find_garbage, remove_garbage
from tasks.upkeep.retention import find_old, remove_old

ROLES = {"sft": "sft", "reward": "reward", "ppo": "policy"}


def digest(number: int) -> str:
    return f"{number:064x}"


class Place:
    """A store and an MLflow with models in them."""

    def __init__(self) -> None:
        self.settings = load_settings()
        self.store = Store(self.settings.store)
        self.tracker = Tracker(self.settings)

    def publish(
        self,
        number: int,
        *inputs: int,
        stage: str = "sft",
        days: float = 100.0,
        metrics: Mapping[str, float] | None = None,
        parent: str = "",
    ) -> str:
        """Publish a stage with weights some days ago, with a version if it is a model; its run."""
        then = time.time() - days * 86_400
        roles = (
            {"policy": inputs[0]} if stage == "evaluate" else dict(zip("abc", inputs, strict=False))
        )
        named = {role: digest(one) for role, one in roles.items()}
        tags = {"quartet.stage": stage, "quartet.digest": digest(number), "quartet.kind": "stage"}
        tags |= {f"input.{role}": one for role, one in named.items()}
        tags |= judged_tags(stage, named)
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        run_id = self.run(tags, then)
        out = self.store.writing(stage, digest(number))
        if stage == "evaluate":
            (out / "samples.jsonl").write_bytes(b"{}\n" * 1000)
        else:
            (out / "model").mkdir()
            (out / "model" / "model.safetensors").write_bytes(os.urandom(10_000))
        (out / "metrics.jsonl").write_text("")
        manifest = Manifest(
            stage=stage, digest=digest(number), seed=0, parameters={}, inputs=named, libraries={},
            code="", run_id=run_id, seconds=0.0, metrics=dict(metrics or {}), files=list_files(out),
        )  # fmt: skip
        write_manifest(out, manifest)
        self.tracker.log_folder(run_id, out)
        self.tracker.log(run_id, tags={"quartet.published": digest(number)})
        self.store.publish(out, stage, digest(number))
        folder = self.store.folder(stage, digest(number))
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (then, then))
        if stage in ROLES:
            self._register(number, stage, run_id, folder)
        return run_id

    def run(self, tags: Mapping[str, str], then: float) -> str:
        """Record a run of some time ago, with the tag that lists what it names."""
        named = sorted({one for text in tags.values() for one in DIGEST.findall(text)})
        more = {"quartet.names": " ".join(named)} if named else {}
        run = self.tracker.client.create_run(
            self.tracker.experiment_id, start_time=int(1000 * then), tags={**tags, **more}
        )
        self.tracker.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _register(self, number: int, stage: str, run_id: str, folder: Path) -> None:
        client = self.tracker.client
        tags = {"quartet.stage": stage, "quartet.digest": digest(number)}
        logged = client.create_logged_model(self.tracker.experiment_id, name=stage, tags=tags)
        client.log_model_artifacts(logged.model_id, str(folder / "model"))
        client.finalize_logged_model(logged.model_id, "READY")
        if not client.search_registered_models(f"name = '{stage}'"):
            client.create_registered_model(stage)
        client.create_model_version(stage, logged.model_uri, run_id=run_id, tags=tags)

    def number(self, of: int, stage: str) -> str:
        """Number of the version of a digest."""
        where = f"name = '{stage}' and tags.`quartet.digest` = '{digest(of)}'"
        return str(next(iter(self.tracker.versions(where))).version)

    def old(self, **options: Any) -> set[int]:
        """What may go."""
        return {int(one.digest, 16) for one in find_old(self.settings, keep_days=30, **options)}

    def clean(self, **options: Any) -> set[int]:
        """Remove what may go and name it."""
        found = find_old(self.settings, keep_days=30, **options)
        removed = remove_old(self.settings, found, keep_days=30, **options)
        return {int(one.digest, 16) for one in removed}

    def weigh(self) -> int:
        """Bytes of the store and of all files in MLflow."""
        folders = (self.settings.store, self.settings.root / "mlflow-artifacts")
        return sum(
            path.stat().st_size
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file()
        )


@pytest.fixture
def place(home: Path) -> Place:
    return Place()


def chain(place: Place, first: int, **more: Any) -> None:
    """SFT, reward model, policy and its evaluation, numbered from first."""
    place.publish(first, stage="sft", **more)
    place.publish(first + 1, first, stage="reward", **more)
    place.publish(first + 2, first, first + 1, stage="ppo", **more)
    place.publish(first + 3, first + 2, stage="evaluate", **more)


def test_old_weights_go_with_all_their_copies_and_what_was_found_out_stays(place: Place) -> None:
    chain(place, 1)
    before = place.weigh()
    found = find_old(place.settings, keep_days=30)
    assert place.old() == {1, 2, 3, 4}
    assert place.weigh() == before  # found is not removed
    assert place.clean() == {1, 2, 3, 4}
    foretold = sum(one.size for one in found)
    assert before - place.weigh() == pytest.approx(foretold, rel=0.01)
    assert not [*place.settings.root.rglob("*.safetensors"), *place.store.root.glob("*/*/*")]
    (run,) = place.tracker.find_tagged({"quartet.published": digest(3)})
    there = {one.path for one in place.tracker.client.list_artifacts(run, PUBLISHED)}
    assert there == {f"{PUBLISHED}/MANIFEST.json", f"{PUBLISHED}/metrics.jsonl"}
    assert place.old() == set()


def test_what_went_is_said_everywhere_and_is_made_again(place: Place) -> None:
    chain(place, 1)
    place.clean()
    date = weights_removed(place.tracker, digest(3))
    assert date == time.strftime("%Y-%m-%d", time.gmtime())
    records = ancestry(place.settings, f"ppo/{digest(3)}")
    assert {one.removed for one in records} == {f"weights removed on {date}"}
    assert len(records) == 4
    with pytest.raises(StoreError, match=f"removed on {date} by `quartet gc --keep-days`"):
        open_published("ppo", digest(3))
    assert fetch_published(place.store, place.tracker, "ppo", digest(3)) is None
    assert sync(place.settings) == []
    place.publish(3, 1, 2, stage="ppo", days=0)
    assert open_published("ppo", digest(3)).digest == digest(3)
    assert place.old() == set()


def alias(place: Place) -> None:
    place.tracker.client.set_registered_model_alias("ppo", "champion", place.number(3, "ppo"))


def pin_version(place: Place) -> None:
    client, number = place.tracker.client, place.number(3, "ppo")
    client.set_model_version_tag("ppo", number, "quartet.pinned", "")


def pin_run(place: Place) -> None:
    (run,) = place.tracker.find_tagged({"quartet.published": digest(3)})
    place.tracker.log(run, tags={"quartet.pinned": "a paper"})


def pin_pipeline(place: Place) -> None:
    parent = place.run({"quartet.kind": "pipeline", "quartet.pinned": "yes"}, 1.0)
    tags = {"quartet.kind": "stage", "quartet.digest": digest(3), "mlflow.parentRunId": parent}
    place.run(tags, 1.0)


def wait_for_people(place: Place) -> None:
    parent = place.run({"quartet.kind": "pipeline"}, 1.0)
    tags = {"quartet.kind": "stage", "quartet.digest": digest(3), "mlflow.parentRunId": parent}
    place.run(tags, 1.0)
    place.tracker.finish(parent, "SCHEDULED")


def use_lately(place: Place) -> None:
    place.run({"quartet.digest": digest(3), "quartet.reused": "true"}, time.time() - 86_400)


def accept(place: Place) -> None:
    place.publish(5, 3, stage="evaluate", metrics={"final/accepted": 1.0})


@pytest.mark.parametrize(
    "want", [alias, pin_version, pin_run, pin_pipeline, wait_for_people, use_lately, accept]
)
def test_what_somebody_needs_stays_with_all_it_was_made_from(
    place: Place, want: Callable[[Place], None]
) -> None:
    chain(place, 1)
    place.publish(9)
    want(place)
    assert place.clean() == {9}
    for stage, one in (("sft", 1), ("reward", 2), ("ppo", 3)):
        assert place.store.find(stage, digest(one)) is not None  # verifies


def test_an_accepted_policy_goes_if_told(place: Place) -> None:
    chain(place, 1)
    accept(place)
    assert place.old(accepted=True) == {1, 2, 3, 4, 5}
    alias(place)
    assert place.old(accepted=True) == set()


def test_nothing_goes_while_a_pipeline_runs_or_mlflow_never_had_it(place: Place) -> None:
    chain(place, 1)
    run = place.run({"quartet.kind": "pipeline"}, time.time())
    place.tracker.client.update_run(run, status="RUNNING")
    assert place.old() == set()
    place.tracker.client.set_terminated(run)
    assert place.old() == {1, 2, 3, 4}
    elsewhere = place.settings.model_copy(
        update={"tracking_uri": f"sqlite:///{place.settings.root}/other.db"}
    )
    assert find_old(elsewhere, keep_days=30) == ()


def test_data_and_labels_stay(place: Place) -> None:
    place.publish(1, stage="prepare")
    place.publish(2, 1, stage="sft")
    (place.store.folder("prepare", digest(1)) / "model" / "model.safetensors").rename(
        place.store.folder("prepare", digest(1)) / "corpus_train.jsonl"
    )
    manifest = Manifest.read(place.store.folder("prepare", digest(1)))
    files = list_files(place.store.folder("prepare", digest(1)))
    folder = place.store.folder("prepare", digest(1))
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    assert place.old() == {2}


PROGRAM = """
import sys
from tasks.settings import load_settings
from tasks.upkeep.retention import find_old, remove_old
found = find_old(load_settings(), keep_days=30)
print("found", flush=True)
sys.stdin.readline()
remove_old(load_settings(), found, keep_days=30)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_what_is_needed_and_ends_the_next_time(place: Place) -> None:
    luck = random.Random(0)
    needed = set()
    for round_ in range(15):
        first = 10 * round_ + 1
        chain(place, first, days=1.0 if round_ % 5 == 0 else 100.0)
        if round_ % 5 == 0:
            needed |= {first, first + 1, first + 2}
        if round_ % 5 == 1:
            place.publish(first + 4, first + 2, stage="evaluate", metrics={"final/accepted": 1.0})
            needed |= {first, first + 1, first + 2}
    place.tracker.client.set_registered_model_alias("ppo", "champion", place.number(23, "ppo"))
    needed |= {21, 22, 23}

    def whole() -> None:
        for one in needed:
            stage = {1: "sft", 2: "reward", 3: "ppo"}[one % 10]
            assert place.store.find(stage, digest(one)) is not None
            assert place.tracker.find_published(digest(one)) is not None

    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"found\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        time.sleep(luck.uniform(0.0, 1.5))
        child.send_signal(signal.SIGKILL)
        child.wait()
        whole()
    chain(place, 151, days=100.0)
    cut_off = place.store.root / "ppo" / digest(153)  # as if one had died within a folder
    cut_off.rename(cut_off.with_name(f"{cut_off.name}.removed"))
    remove_garbage(place.settings, find_garbage(place.settings, older_than_days=1.0))
    place.clean()
    whole()
    assert place.old() == set()
    left = {int(path.name, 16) for path in place.store.root.glob("*/*") if path.is_dir()}
    assert {one for one in left if one % 10 < 4} == needed
