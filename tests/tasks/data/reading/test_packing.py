"""Packed files, archives, columnar files, and files that are something else."""

import bz2
import datetime
import decimal
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from models.errors import DataError
from tasks.data import limits
from tasks.data.files import expand, open_rows, read_file

Read = Callable[..., tuple[list[dict[str, Any]], str]]
Refused = Callable[..., str]
ROWS = [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
MEMBERS = {
    "a/x.jsonl": LINES,
    "b.csv.gz": gzip.compress(b"prompt,completion\nx,y\n"),
    "README.md": b"about",
    "picture.png": b"\x89PNG",
    ".DS_Store": b"\0",
}
FROM_MEMBERS = [*ROWS, {"prompt": "x", "completion": "y"}]


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return sink.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(opened: Any) -> bytes:
    sink = io.BytesIO()
    table = pyarrow.Table.from_pylist(ROWS)
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def by_name(value: object) -> str:
    """An id of a test: bytes would bring the packing's time into it, and workers would differ."""
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.JSONL.GZ", gzip.compress(LINES)),
        ("a.jsonl.bz2", bz2.compress(LINES)),
        ("a.jsonl.xz", lzma.compress(LINES)),
        ("a.ndjson.zst", zstandard.compress(LINES[:20]) + zstandard.compress(LINES[20:])),
        ("packed.jsonl", gzip.compress(LINES)),
        ("plain.jsonl.gz", LINES),
        ("a.parquet", parquet(ROWS)),
        ("named.jsonl", parquet(ROWS)),
        ("a.parquet.zst", zstandard.compress(parquet(ROWS))),
        ("file.arrow", arrow(pyarrow.ipc.new_file)),
        ("stream.arrow", arrow(pyarrow.ipc.new_stream)),
        ("lines.csv", LINES),
        ("lines.txt", LINES),
    ],
    ids=by_name,
)
def test_content_decides_how_a_file_is_read(read: Read, name: str, data: bytes) -> None:
    assert read(name, data)[0] == ROWS


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", zipped(MEMBERS)),
        ("a.csv", zipped(MEMBERS)),
        ("a.tar", tarred(MEMBERS)),
        ("a.tar.gz", gzip.compress(tarred(MEMBERS))),
        ("a.tgz", gzip.compress(tarred(MEMBERS))),
        ("a.tar.zst", zstandard.compress(tarred(MEMBERS))),
    ],
    ids=by_name,
)
def test_members_of_an_archive_are_read_each_as_its_own(read: Read, name: str, data: bytes) -> None:
    rows, notes = read(name, data)
    assert rows == FROM_MEMBERS
    for word in (f"left out of {name}", "README.md (about the data)", "picture.png (no known"):
        assert word in notes


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl.gz", gzip.compress(LINES)[:-9], ("not a whole gzip file", "copy the file again")),
        ("a.jsonl.zst", zstandard.compress(LINES * 999)[:-3], ("not a whole zstd file", "cut")),
        ("a.jsonl.xz", lzma.compress(LINES)[:-9], ("not a whole xz file",)),
        ("a.tar", tarred(MEMBERS)[:1500], ("not a whole tar file",)),
        ("a.zip", zipped(MEMBERS)[:-30], ("a whole zip file",)),
        ("a.zip", zipped({"x.zip": zipped(MEMBERS)}), ("an archive (zip) in an archive", "unpack")),
        ("a.zip", zipped({"x.png": b"x"}), ("no file that can be read", "x.png")),
        ("a.zip", zipped({"x.jsonl": b'{"a": 1\n{"b": 2}\n'}), ("a.zip/x.jsonl, line 1",)),
        ("a.jsonl.gz", gzip.compress(gzip.compress(LINES)), ("packed twice",)),
        ("a.xlsx", zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b""}), ("Excel", "CSV")),
        ("a.csv", zipped({"word/document.xml": b""}), ("a Word document",)),
        ("a.ods", zipped({"mimetype": b"x", "content.xml": b""}), ("a LibreOffice document",)),
        ("a.pt.jsonl", zipped({"m/data.pkl": b""}), ("PyTorch",)),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, ("an old Excel",)),
        ("a.txt", b"%PDF-1.4 x", ("a PDF", "extract its text")),
        ("a.jsonl", b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.", ("a pickle", "run code")),
        ("a.db.json", b"SQLite format 3\0" + b"\1" * 50, ("an SQLite database",)),
        ("a.jsonl", b"\n<!DOCTYPE HTML><html>", ("a web page", "download the file itself")),
        ("a.csv", b"<?xml version='1.0'?><a/>", ("an XML document",)),
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            ("a Git LFS pointer", "git lfs pull"),
        ),
        ("a.jsonl", b"/annex/objects/SHA256E-s1--0.jsonl\n", ("git-annex", "git annex get")),
        ("a.jsonl", b"\0" * 999, ("filled with NUL bytes",)),
        ("a.txt", bytes(range(256)) * 9, ("is no text",)),
        ("a.parquet", LINES, ("no parquet",)),
    ],
    ids=by_name,
)
def test_what_cannot_be_read_is_named_for_what_it_is(
    refused: Refused, name: str, data: bytes, words: tuple[str, ...]
) -> None:
    message = refused(name, data)
    for word in (name, *words):
        assert word in message
    assert message.isprintable()


def test_annex_links_without_their_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("../.git/annex/objects/x/y/SHA256E-s1--0.jsonl")
    with pytest.raises(DataError, match="git annex get"):
        read_file(tmp_path / "a.jsonl")


def test_a_bomb_in_an_archive_is_refused(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BEYOND_DOUBT", 2**16)
    bomb = b'{"text": "a"}\n' * 2**16
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.jsonl", bomb)
    for name, data in (
        ("a.zip", sink.getvalue()),
        ("a.jsonl.zst", zstandard.compress(bomb)),
        ("a.tar.gz", gzip.compress(tarred({"x.jsonl": bomb}))),
    ):
        assert "more than 200 times its size" in refused(name, data)


def test_parquet_values_become_what_json_can_hold(read: Read) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    row = {
        "at": moment, "day": moment.date(), "price": decimal.Decimal("1.5"), "raw": b"bytes",
        "messages": [{"role": "user", "content": "x"}], "none": None,
    }  # fmt: skip
    rows, _ = read("a.parquet", parquet([row]))
    assert rows == [
        row | {"at": "2026-01-02T03:04:05", "day": "2026-01-02", "price": 1.5, "raw": "bytes"}
    ]
    json.dumps(rows)


def test_rows_come_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES * 9 + b'{"broken\n')
    rows = iter(open_rows(path))
    assert next(rows) == ROWS[0]
    with pytest.raises(DataError, match="line 28"):
        list(rows)


def test_zstd_with_a_long_window_is_read_as_far_as_memory_goes(
    read: Read, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frame(window_log: int) -> bytes:  # RFC 8878: magic, header, window, one raw block, the last
        block = (len(LINES) << 3 | 1).to_bytes(3, "little") + LINES
        return bytes([0x28, 0xB5, 0x2F, 0xFD, 0, (window_log - 10) << 3]) + block

    monkeypatch.setattr(limits, "main_memory", lambda: 2**34)
    assert read("a.jsonl.zst", frame(31))[0] == ROWS
    monkeypatch.setattr(limits, "main_memory", lambda: 2**30)
    message = refused("a.jsonl.zst", frame(28))
    assert "a window (zstd --long) of more than 128 MiB" in message
    assert "unpack it (zstd -d --long=31)" in message


def test_files_of_a_source_are_found(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.CSV.gz", "sub/c.parquet", ".git/d.jsonl", "LICENSE.txt", "x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    notes: list[str] = []
    found = expand(str(tmp_path), notes=notes)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "a.CSV.gz", "b.jsonl", "sub/c.parquet",
    ]  # fmt: skip
    for word in ("d.jsonl (hidden)", "LICENSE.txt (about the data)", "x.py (no known ending)"):
        assert word in notes[0]
    assert expand(str(tmp_path / "*.jsonl")) == [tmp_path / "b.jsonl"]
    assert expand(str(tmp_path / "**/*.parquet")) == [tmp_path / "sub/c.parquet"]
    assert expand(str(tmp_path / "x.py")) == [tmp_path / "x.py"]
    with pytest.raises(DataError, match="no file that can be read: got x"):
        expand(str(tmp_path / "x.*"))


def test_an_address_is_not_fetched() -> None:
    with pytest.raises(DataError, match=r"is an address, which is not fetched.* OWNER/NAME"):
        expand("https://example.org/pairs.jsonl")
