"""Checkpoints: only sealed and untouched ones are found."""

import logging
from pathlib import Path

import pytest

from models.checkpoints import is_intact, latest, prune, seal


def _checkpoint(parent: Path, step: int, *, sealed: bool = True) -> Path:
    folder = parent / f"checkpoint-{step}"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights" * step)
    (folder / "deep" / "state.json").write_text("{}")
    if sealed:
        seal(folder)
    return folder


def test_latest_is_the_highest_step_not_the_last_name(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        _checkpoint(tmp_path, step)
    assert latest(tmp_path) == tmp_path / "checkpoint-10"


def test_latest_is_nothing_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert latest(tmp_path / "absent") is None
    (tmp_path / "runs").mkdir()
    (tmp_path / "checkpoint-5").write_text("a file, no folder")
    assert latest(tmp_path) is None


@pytest.mark.parametrize("damage", ["unsealed", "flipped", "shorter", "missing", "bad seal"])
def test_latest_skips_a_torn_checkpoint_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole = _checkpoint(tmp_path, 1)
    torn = _checkpoint(tmp_path, 2, sealed=damage != "unsealed")
    weights = torn / "weights.bin"
    if damage == "flipped":
        weights.write_bytes(b"Weights" * 2)  # same size, other content
    elif damage == "shorter":
        weights.write_bytes(b"weights")
    elif damage == "missing":
        (torn / "deep" / "state.json").unlink()
    elif damage == "bad seal":
        (torn / "SEAL.json").write_text('{"files": ')
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path) == whole
    assert "checkpoint-2 is torn" in caplog.text
    assert not is_intact(torn)


def test_sealing_again_covers_what_changed(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path, 1)
    (folder / "weights.bin").write_bytes(b"new")
    assert not is_intact(folder)
    seal(folder)
    assert is_intact(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["SEAL.json", "deep", "weights.bin"]


def test_prune_keeps_the_newest_sealed_and_anything_newer(tmp_path: Path) -> None:
    for step, sealed in ((1, True), (2, False), (3, True), (4, True), (5, False)):
        _checkpoint(tmp_path, step, sealed=sealed)
    prune(tmp_path, keep=2)
    # 1 is the third newest sealed one, 2 is torn and old; 5 may be in the making.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-3",
        "checkpoint-4",
        "checkpoint-5",
    ]


def test_prune_deletes_nothing_where_nothing_is_sealed(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path, 1, sealed=False)
    prune(tmp_path, keep=2)
    assert folder.is_dir()


def test_prune_keeps_a_checkpoint_that_lies_far_enough_behind(tmp_path: Path) -> None:
    kept = []
    for step in range(9):
        _checkpoint(tmp_path, step)
        prune(tmp_path, keep=2, behind=3)
        kept.append(sorted(int(path.name.rpartition("-")[2]) for path in tmp_path.iterdir()))
    # The newest that is three steps and more behind, and all after it, which will be that one.
    assert kept == [[*range(max(0, step - 3), step + 1)] for step in range(9)]
    for step in (20, 40, 60):
        _checkpoint(tmp_path, step)
        prune(tmp_path, keep=2, behind=25)
    # 20 is no 25 steps behind 40, so that 8 was kept with it; 60 has 20 behind it.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-20",
        "checkpoint-40",
        "checkpoint-60",
    ]
