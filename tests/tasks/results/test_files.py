"""Files that are whole or as they were, whenever the power goes."""

from pathlib import Path

import pytest

from tasks.results import store as files
from tasks.results.store import write_whole


def test_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str]]] = []

    def look(path: Path) -> None:
        seen.append((path.name, sorted(one.name for one in tmp_path.iterdir())))

    monkeypatch.setattr(files, "fsync", look)
    write_whole(tmp_path / "note", "text")
    (scratch, before), (folder, after) = seen
    assert before == [scratch]
    assert (folder, after) == (tmp_path.name, ["note"])
    assert (tmp_path / "note").read_text() == "text"


def test_file_keeps_what_it_had_when_the_new_text_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError("no space left")

    write_whole(tmp_path / "note", "old")
    monkeypatch.setattr(files, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "note", "new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("note", "old")]
