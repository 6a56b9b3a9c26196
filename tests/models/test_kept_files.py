"""Files of a cache: written once, whole or not at all, and never used when damaged."""

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from models.kept_files import open_kept

PAYLOAD = bytes(range(256)) * 100


class Writer:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, file: BinaryIO) -> Mapping[str, Any]:
        self.calls += 1
        file.write(PAYLOAD)
        return {"rows": 7}


def test_file_is_written_once_and_found_again(tmp_path: Path) -> None:
    write = Writer()
    for _ in range(3):
        file, facts = open_kept(tmp_path / "cache" / "some.tokens", write)
        with file:
            assert file.read(len(PAYLOAD)) == PAYLOAD
        assert facts == {"rows": 7}
    assert write.calls == 1
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["some.tokens"]


@pytest.mark.parametrize("place", [0, len(PAYLOAD) // 2, len(PAYLOAD) + 3, -1, -15])
def test_file_with_a_flipped_bit_is_written_again(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    write = Writer()
    open_kept(tmp_path / "some", write)[0].close()
    whole = bytearray((tmp_path / "some").read_bytes())
    whole[place] ^= 4
    (tmp_path / "some").write_bytes(whole)
    with open_kept(tmp_path / "some", write)[0] as file:
        assert file.read(len(PAYLOAD)) == PAYLOAD
    assert write.calls == 2
    assert "some is damaged and is written again" in caplog.text


@pytest.mark.parametrize("size", [0, 1, 19, 20, 21, 1000])
def test_cut_file_is_written_again(tmp_path: Path, size: int) -> None:
    write = Writer()
    open_kept(tmp_path / "some", write)[0].close()
    (tmp_path / "some").write_bytes((tmp_path / "some").read_bytes()[:size])
    open_kept(tmp_path / "some", write)[0].close()
    assert write.calls == 2


def test_writer_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stopped(file: BinaryIO) -> Mapping[str, Any]:
        file.write(PAYLOAD)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_kept(tmp_path / "some", stopped)
    assert list(tmp_path.iterdir()) == []


def test_writer_whose_folder_is_removed_meanwhile_keeps_what_it_wrote(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> Mapping[str, Any]:
        file.write(PAYLOAD)
        shutil.rmtree(tmp_path / "cache")  # as `quartet gc --older-than-days 0` does
        return {"rows": 7}

    file, facts = open_kept(tmp_path / "cache" / "some", write)
    with file:
        assert file.read(len(PAYLOAD)) == PAYLOAD
    assert facts == {"rows": 7}
    assert list(tmp_path.iterdir()) == []


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_kept(tmp_path / "some", Writer()), range(8)))
    for file, _ in found:
        with file:
            assert file.read(len(PAYLOAD)) == PAYLOAD
    assert [one.name for one in tmp_path.iterdir()] == ["some"]
