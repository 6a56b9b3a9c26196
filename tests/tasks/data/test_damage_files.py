"""Files that are damaged as files: names, links, pipes, folders and globs, files that change."""

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from models.errors import DataError
from tasks.data.files import open_rows
from tests.tasks.data.damage_bytes import pointer
from tests.tasks.data.damage_kinds import SFT, csv_of, damaged, parquet, tarred, zipped
from tests.tasks.data.witness import Outcome, Row, bring, jsonl, one_line, prepared

MORE = [{"prompt": f"What is {n}?", "completion": f"The number {n}."} for n in range(20)]


def built(source: Path | str, tmp_path: Path, **fields: object) -> Outcome:
    return prepared("demonstrations", str(source), tmp_path / "out", **fields)


def prompts(outcome: Outcome) -> set[str]:
    return {row["prompt"] for row in outcome.kept}


@pytest.mark.parametrize(
    "name",
    [
        "with spaces.jsonl",
        "two\nlines.jsonl",
        "résumé 数据.jsonl",
        "A.JSONL",
        "B.Json",
        "C.CSV",
        "D.Parquet",
        "E.JSONL.GZ",
        "-rf.jsonl",
        "50%.jsonl",
        "a=0.7.jsonl",
        "a,b.jsonl",
        "what?[1].jsonl",
        "a.b.c.jsonl",
        "owner@main.jsonl",
    ],
)
def test_a_file_is_read_whatever_its_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ending = path.suffix.lower()
    content = {".csv": csv_of(MORE).encode(), ".parquet": parquet(MORE)}.get(ending, jsonl(MORE))
    path.write_bytes(gzip.compress(content) if ending == ".gz" else content)
    outcome = bring(path, "demonstrations")
    assert outcome.kept == MORE, outcome.said


@pytest.mark.parametrize("name", ["with spaces.jsonl", "résumé 数据.jsonl", "A.JSONL", "50%.jsonl"])
def test_a_source_is_found_whatever_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(jsonl(MORE))
    assert len(built(tmp_path / name, tmp_path).kept) == len(MORE)


@pytest.mark.parametrize("name", ["what?[1].jsonl", "a,b.jsonl", "a=0.7.jsonl"])
def test_a_name_with_a_meaning_is_found_or_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(jsonl(MORE))
    outcome = built(tmp_path / name, tmp_path)
    assert outcome.refused or len(outcome.kept) == len(MORE)


@pytest.mark.parametrize("source", ["none.jsonl", "*.jsonl", "no/such/folder", "[", "**"])
def test_a_source_that_matches_nothing_is_refused(source: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert source in built(f"{empty}/{source}", tmp_path).refused


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in built(tmp_path / "empty", tmp_path).refused


@pytest.mark.parametrize("again", ["{0},{0}", "{0},{1}/a.jsonl", "{0},{1}/*.jsonl", "{0},{1}"])
def test_a_file_that_is_named_twice_teaches_once(again: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(jsonl(MORE))
    outcome = built(again.format(folder / "a.jsonl", folder), tmp_path)
    assert len(outcome.kept) in (0, len(MORE))
    assert outcome.refused or "twice" in outcome.said or outcome.dropped == {"duplicate": 20}


def test_a_folder_of_several_formats_is_read_whole(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(jsonl(MORE[:5]))
    (folder / "b.csv").write_bytes(csv_of(MORE[5:10]).encode())
    (folder / "sub" / "c.parquet").write_bytes(parquet(MORE[10:15]))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(jsonl(MORE[15:])))
    (folder / "README.md").write_text("Numbers.")
    (folder / "plot.png").write_bytes(b"\x89PNG\r\n")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    outcome = built(folder, tmp_path)
    assert outcome.refused or prompts(outcome) == {row["prompt"] for row in MORE}
    for name in ("README.md", "plot.png"):
        assert name in outcome.said


def test_a_folder_with_one_file_that_is_no_data_is_refused_or_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(jsonl(MORE))
    (folder / "b.jsonl").write_bytes(pointer())
    outcome = built(folder, tmp_path)
    assert "b.jsonl" in outcome.said
    assert "LFS" in outcome.said


def test_a_file_that_vanishes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(SFT))
    path.unlink()
    assert "a.jsonl" in bring(path, "demonstrations").refused


def while_changing(path: Path, change: Callable[[Path], object]) -> tuple[list[object], str]:
    """Read a file that changes behind its first row: the rows, and the refusal."""
    rows = []
    try:
        for number, row in enumerate(open_rows(path)):
            if number == 0:
                change(path)
            rows.append(row)
    except DataError as error:
        return rows, one_line(error)
    return rows, ""


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_file_that_shrinks_while_it_is_read_loses_no_row_in_silence(
    ending: str, tmp_path: Path
) -> None:
    many = [{"prompt": f"What is {n}?" * 20, "completion": "A number."} for n in range(20_000)]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(jsonl(many) if ending == "jsonl" else csv_of(many).encode())
    rows, refused = while_changing(path, lambda path: os.truncate(path, 3000))
    assert path.name in refused or rows == many


def test_a_file_that_grows_while_it_is_read_gives_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(MORE))

    def grow(path: Path) -> None:
        with path.open("ab") as file:
            file.write(jsonl(MORE)[:-30])

    rows, refused = while_changing(path, grow)
    assert path.name in refused or len(rows) >= len(MORE)
    assert all(row in MORE for row in rows)


def test_a_file_that_is_replaced_while_it_is_read_gives_the_old_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(MORE))

    def replace(path: Path) -> None:
        (path.parent / "b").write_bytes(jsonl(SFT))
        os.replace(path.parent / "b", path)

    rows, refused = while_changing(path, replace)
    assert path.name in refused or rows == MORE


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    assert "pipe" in bring(tmp_path / "a.jsonl", "demonstrations").refused
    assert "pipe" in built(tmp_path / "a.jsonl", tmp_path).refused


def test_a_folder_named_as_a_file_is_refused_or_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    assert "a.jsonl" in bring(tmp_path / "a.jsonl", "demonstrations").refused


@pytest.mark.parametrize("name", ["a.jsonl", "b"])
def test_links_that_go_round_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").symlink_to(folder / "a.jsonl")
    (folder / "b").symlink_to(folder)
    assert built(folder / name, tmp_path).refused


def test_a_folder_in_itself_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(jsonl(MORE))
    (folder / "again").symlink_to(folder)
    outcome = built(folder, tmp_path)
    assert outcome.refused or (len(outcome.kept) == len(MORE) and not outcome.dropped)


def test_a_link_to_a_missing_annex_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.symlink_to(".git/annex/objects/Xw/9k/SHA256E-s7--4d7a/SHA256E-s7--4d7a")
    refused = bring(path, "demonstrations").refused
    assert "a.jsonl" in refused
    assert "annex" in refused


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.json", "a.csv"])
def test_a_line_of_100_mb_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'prompt\n{"text": "')
        file.seek(100 * 2**20)
        file.write(b'"}\n')
    outcome = bring(path, "corpus")
    assert name in outcome.refused


def test_a_device_is_refused() -> None:
    for name in ("/dev/zero", "/dev/null", "/dev/random"):
        assert "device" in bring(Path(name), "corpus").refused


def test_a_build_names_the_file_of_every_fault(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(jsonl(MORE))
    (folder / "b.jsonl").write_bytes(jsonl(MORE[:3])[:-10])
    outcome = built(folder, tmp_path)
    assert "b.jsonl, line 3" in outcome.refused


def as_array(rows: list[Row]) -> bytes:
    return json.dumps(rows, indent=1).encode()


WHOLE: dict[str, Callable[[], bytes]] = {
    "a.jsonl": lambda: jsonl(MORE),
    "a.json": lambda: as_array(MORE),
    "a.csv": lambda: csv_of(MORE).encode(),
    "a.jsonl.gz": lambda: gzip.compress(jsonl(MORE)),
    "a.csv.zst": lambda: zstandard.ZstdCompressor(write_checksum=True).compress(
        csv_of(MORE).encode()
    ),
    "a.zip": lambda: zipped({"x.jsonl": jsonl(MORE[:9]), "y.json": as_array(MORE[9:])}),
    "a.tar": lambda: tarred({"x.jsonl": jsonl(MORE[:9]), "y.json": as_array(MORE[9:])}),
    "a.tar.gz": lambda: tarred({"x.jsonl": jsonl(MORE)}, mode="w:gz"),
    "a.parquet": lambda: parquet(MORE),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_read_whole(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WHOLE[name]())
    outcome = bring(tmp_path / name, "demonstrations")
    assert outcome.kept == MORE, outcome.said


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_anywhere_gives_no_row_that_is_not_whole(name: str, tmp_path: Path) -> None:
    content = WHOLE[name]()
    for cut in range(1, len(content), max(1, len(content) // 40)):
        (tmp_path / name).write_bytes(content[:-cut])
        outcome = bring(tmp_path / name, "demonstrations")
        assert all(row in MORE for row in outcome.kept), (cut, outcome)
        assert not outcome.refused or name in outcome.refused, (cut, outcome)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(name == "a.zip", reason="zlib.error"))
        for name in WHOLE
    ],
)
def test_changed_bytes_break_no_reader(name: str, tmp_path: Path) -> None:
    for seed in range(40):
        (tmp_path / name).write_bytes(damaged(WHOLE[name](), seed, 1 + seed % 5))
        outcome = bring(tmp_path / name, "demonstrations")
        assert not outcome.refused or name in outcome.refused, (seed, outcome)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.zst", "a.tar.gz"])
def test_changed_bytes_of_what_has_a_checksum_are_noticed(name: str, tmp_path: Path) -> None:
    for seed in range(40):
        content = bytearray(WHOLE[name]())
        place = random.Random(seed).randrange(len(content))
        content[place] ^= 1 << seed % 8
        (tmp_path / name).write_bytes(content)
        outcome = bring(tmp_path / name, "demonstrations")
        assert all(row in MORE for row in outcome.kept), (place, outcome)
