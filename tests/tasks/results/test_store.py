"""The stage store: results are whole or absent, and a damaged one names the file and a remedy."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models.errors import StoreError
from tasks.results.store import Manifest, StageRef, Store, list_files, verify, write_manifest

STAGE, DIGEST = "sft", "d" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write_stage(store: Store) -> Path:
    """Write a complete result of two files, one of them in a subfolder."""
    out = store.writing(STAGE, DIGEST)
    (out / "report.md").write_text("fine\n")
    (out / "model").mkdir()
    (out / "model" / "weights.bin").write_bytes(b"\x00\x01\x02")
    manifest = Manifest(
        stage=STAGE,
        digest=DIGEST,
        seed=3,
        parameters={"sft": {"epochs": 1.0}},
        inputs={"base": "b" * 64},
        libraries={"torch": "2"},
        code="c" * 64,
        run_id="run",
        seconds=1.5,
        metrics={"sft/loss": 0.25},
        files=list_files(out),
    )
    write_manifest(out, manifest)
    return out


def publish(store: Store) -> Path:
    store.publish(write_stage(store), STAGE, DIGEST)
    return store.folder(STAGE, DIGEST)


def test_store_gives_back_what_was_published(store: Store) -> None:
    folder = publish(store)
    manifest = store.find(STAGE, DIGEST)
    assert manifest is not None
    assert manifest.metrics == {"sft/loss": 0.25}
    assert manifest.inputs == {"base": "b" * 64}
    assert sorted(manifest.files) == ["model/weights.bin", "report.md"]
    assert manifest.files["model/weights.bin"].size == 3
    # sha256 of the bytes 00 01 02
    assert manifest.files["model/weights.bin"].sha256.startswith("ae4b3280e56e2faf")
    assert store.open(StageRef(stage=STAGE, digest=DIGEST)) == folder


def test_store_finds_nothing_when_only_begun(store: Store) -> None:
    write_stage(store)
    store.partial(STAGE, DIGEST)
    assert store.find(STAGE, DIGEST) is None
    with pytest.raises(StoreError, match=r"sft dddddddddddd is not in the store .*QUARTET_HOME"):
        store.open(StageRef(stage=STAGE, digest=DIGEST))


def test_store_publishes_nothing_and_keeps_checkpoints_when_it_fails_before_the_rename(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.partial(STAGE, DIGEST) / "checkpoint").write_text("half way")
    written = write_stage(store)

    def fail(*_: object) -> None:
        raise OSError("pulled the plug")

    for broken in ("fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, fail)
            with pytest.raises(OSError, match="pulled the plug"):
                store.publish(written, STAGE, DIGEST)
        assert not store.folder(STAGE, DIGEST).exists()
        assert (store.partial(STAGE, DIGEST) / "checkpoint").read_text() == "half way"


def test_store_flushes_every_file_before_the_rename(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_stage(store)
    flushed: list[str] = []
    rename, fsync = os.rename, os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    before: list[str] = []
    monkeypatch.setattr(os, "rename", lambda a, b: (before.extend(flushed), rename(a, b)))
    store.publish(written, STAGE, DIGEST)
    names = {"report.md", "MANIFEST.json", "model", "model/weights.bin", "."}
    assert {os.path.relpath(path, written) for path in before} == names
    assert flushed[-1] == str(store.root / STAGE)  # the rename itself


def test_store_drops_checkpoints_when_published(store: Store) -> None:
    partial = store.partial(STAGE, DIGEST)
    (partial / "checkpoint").write_text("half way")
    publish(store)
    assert not partial.exists()


def test_store_writes_into_an_empty_folder_when_an_earlier_attempt_left_one(store: Store) -> None:
    (store.writing(STAGE, DIGEST) / "torn").write_text("?")
    assert list(store.writing(STAGE, DIGEST).iterdir()) == []


@pytest.mark.parametrize("name", ["model/weights.bin", "report.md"])
def test_store_names_file_and_remedy_when_damaged(store: Store, name: str) -> None:
    folder = publish(store)
    (folder / name).write_bytes(b"other bytes")
    with pytest.raises(StoreError) as raised:
        store.find(STAGE, DIGEST)
    message = str(raised.value)
    assert f"{folder / name} is damaged" in message
    assert "11 bytes" in message
    assert f"remove the folder {folder}" in message


def test_store_sees_one_flipped_bit(store: Store) -> None:
    path = publish(store) / "model" / "weights.bin"
    path.write_bytes(b"\x00\x01\x03")
    with pytest.raises(StoreError, match="damaged"):
        store.open(StageRef(stage=STAGE, digest=DIGEST))


def test_store_names_file_and_remedy_when_missing(store: Store) -> None:
    folder = publish(store)
    (folder / "model" / "weights.bin").unlink()
    with pytest.raises(StoreError, match=r"model/weights\.bin is missing .* remove the folder"):
        store.find(STAGE, DIGEST)


@pytest.mark.parametrize("name", ["extra.txt", "model/weights-2.bin", "model/MANIFEST.json"])
def test_store_names_file_and_remedy_when_there_is_one_too_many(store: Store, name: str) -> None:
    folder = publish(store)
    (folder / name).write_text("who put this here?")
    with pytest.raises(StoreError, match=r"does not belong .* move the file away") as raised:
        store.find(STAGE, DIGEST)
    assert str(folder / name) in str(raised.value)


def test_store_refuses_a_folder_that_holds_another_result(store: Store) -> None:
    folder = publish(store)
    folder.rename(folder.with_name("f" * 64))  # copied by hand to where another one belongs
    with pytest.raises(StoreError, match=r"holds .* wanted .* remove the folder"):
        store.find(STAGE, "f" * 64)


@pytest.mark.parametrize("content", [None, "", "{}", "[1", '{"stage": "sft"}'])
def test_store_names_the_manifest_when_it_cannot_be_read(store: Store, content: str | None) -> None:
    folder = publish(store)
    (folder / "MANIFEST.json").unlink()
    if content is not None:
        (folder / "MANIFEST.json").write_text(content)
    with pytest.raises(StoreError, match=r"MANIFEST\.json cannot be read .* remove the folder"):
        verify(folder, folder.parent.name, folder.name)


def test_manifest_is_readable_by_people_and_programs(store: Store) -> None:
    text = (publish(store) / "MANIFEST.json").read_text()
    assert json.loads(text)["parameters"] == {"sft": {"epochs": 1.0}}
    assert text.count("\n") > 10


def test_lock_makes_a_second_thread_wait(store: Store) -> None:
    events: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with store.lock(STAGE, DIGEST, on_wait=waiting.set):
            events.append("second in")

    with store.lock(STAGE, DIGEST, on_wait=lambda: events.append("first waits")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        events.append("first out")
    thread.join(30)
    assert events == ["first out", "second in"]


def test_lock_makes_a_second_process_wait(store: Store) -> None:
    program = (
        "import sys; from pathlib import Path; from tasks.results.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('sft', sys.argv[2],"
        " on_wait=lambda: print('waits', flush=True)):\n"
        "    print('in', flush=True)\n"
    )
    with store.lock(STAGE, DIGEST, on_wait=lambda: None):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(store.root), DIGEST],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        assert process.poll() is None
    assert process.communicate(timeout=30)[0] == "in\n"
    assert process.returncode == 0


def test_lock_lets_other_digests_in_and_is_free_after_an_error(store: Store) -> None:
    def never() -> None:
        raise AssertionError("waited")

    with store.lock(STAGE, DIGEST, on_wait=never), store.lock(STAGE, "e" * 64, on_wait=never):
        pass
    with pytest.raises(KeyError), store.lock(STAGE, DIGEST, on_wait=never):
        raise KeyError
    with store.lock(STAGE, DIGEST, on_wait=never):
        pass


@pytest.mark.parametrize("name", [f"{STAGE}/{DIGEST}", f"{STAGE}/dddd"])
def test_resolve_finds_a_stage_by_its_digest_or_the_beginning(store: Store, name: str) -> None:
    publish(store)
    store.partial(STAGE, "dddd" + "e" * 60)  # begun, not published: does not count
    ref = store.resolve(name)
    assert (ref.stage, ref.digest, ref.run_id) == (STAGE, DIGEST, "run")
    assert ref.metrics == {"sft/loss": 0.25}


@pytest.mark.parametrize("name", [f"{STAGE}/e", f"{STAGE}/", STAGE, f"reward/{DIGEST}", ""])
def test_resolve_says_how_to_name_a_stage_when_none_is_meant(store: Store, name: str) -> None:
    publish(store)
    with pytest.raises(StoreError, match="wanted exactly one as stage/digest") as raised:
        store.resolve(name)
    assert repr(name) in str(raised.value)


def test_resolve_refuses_a_beginning_that_two_stages_share(store: Store) -> None:
    shutil.copytree(publish(store), store.folder(STAGE, "d" * 8 + "e" * 56))
    with pytest.raises(StoreError, match="names 2 published stages"):
        store.resolve(f"{STAGE}/dddd")


def test_resolve_refuses_a_damaged_stage(store: Store) -> None:
    (publish(store) / "report.md").write_text("changed")
    with pytest.raises(StoreError, match="damaged"):
        store.resolve(f"{STAGE}/{DIGEST}")
