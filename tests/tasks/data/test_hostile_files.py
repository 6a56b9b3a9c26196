"""Files that break a reader: each is rows or one clear line, at once and within bounds.

Every kind is read as a file of its own, as a member of a data folder, and as questions.
"""

import bz2
import datetime
import gzip
import io
import json
import lzma
import os
import random
import socket
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from models.benchmarks.questions import read_questions
from models.errors import DataError, QuartetError
from tasks.data import limits
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.files import read_file
from tasks.data.limits import Guard, local_files, most_bytes, unpacked
from tasks.data.sources import fingerprint
from tasks.judging.prompts import read_prompt_file

MIB = 2**20
ROWS = [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
GZIPPED = gzip.compress(LINES)


def parquet(table: Any = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table or pyarrow.Table.from_pylist(ROWS), sink, **options)
    return sink.getvalue()


def column(values: list[Any], kind: Any) -> bytes:
    return parquet(pyarrow.table({"prompt": pyarrow.array(values, kind)}))


def repeated(**options: Any) -> bytes:
    """A text of 1 MiB that stands in a small file 2,000 times."""
    words = pyarrow.array(["x" * MIB])
    rows = pyarrow.array([0] * 2_000, pyarrow.int32())
    words = pyarrow.DictionaryArray.from_arrays(rows, words)
    return parquet(pyarrow.table({"prompt": words}), **options)


def damaged(data: bytes, seed: int, count: int = 8) -> bytes:
    """The data with some bytes changed."""
    draw = random.Random(seed)
    changed = bytearray(data)
    for _ in range(count):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = b'{"text": "a"}\n' * 2**16
    return b"".join(packer.compress(chunk) for _ in range(size // len(chunk))) + packer.flush()


def archive(size: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("sft.jsonl", b"\0" * size)
    return sink.getvalue()


def deep(opening: str, closing: str, depth: int = 200_000) -> bytes:
    return (opening * depth + closing * depth).encode()


NUMBER = b'{"prompt": "p", "completion": "c", "margin": %s}\n'

CONTENTS: dict[str, Callable[[], bytes]] = {
    "nothing.jsonl": lambda: b"",
    "nothing.csv": lambda: b"",
    "nothing.txt.gz": lambda: b"",
    "nothing.parquet": lambda: b"",
    "nothing-packed.jsonl.gz": lambda: gzip.compress(b""),
    "blank.jsonl": lambda: b"\n" * 1000,
    "nul.jsonl": lambda: b"\0" * MIB,
    "nul.csv": lambda: b"prompt,completion\n\0,\0\n",
    "nul-in-text.jsonl": lambda: b'{"prompt": "a\\u0000b", "completion": "c\0"}\n',
    "long-line-of-nul.txt": lambda: b"\0" * (10 * MIB),
    "bomb.jsonl.gz": lambda: bomb(10 * MIB),
    "bomb-of-nul.txt.gz": lambda: gzip.compress(b"\0" * (10 * MIB)),
    "bomb-in-bomb.jsonl.gz": lambda: gzip.compress(gzip.compress(b"\0" * (8 * MIB))),
    "zip.jsonl": lambda: archive(MIB),
    "zip.jsonl.gz": lambda: archive(MIB),
    "xz.jsonl.gz": lambda: lzma.compress(LINES),
    "bzip2.csv.gz": lambda: bz2.compress(LINES),
    "cut.jsonl.gz": lambda: GZIPPED[: len(GZIPPED) // 2],
    "cut-checksum.jsonl.gz": lambda: GZIPPED[:-4],
    "wrong-checksum.jsonl.gz": lambda: GZIPPED[:-8] + b"\0" * 8,
    "rubbish-behind.jsonl.gz": lambda: GZIPPED + b"rubbish",
    "header-only.jsonl.gz": lambda: b"\x1f\x8b",
    "two-members.jsonl.gz": lambda: GZIPPED + GZIPPED,
    "deep-array.jsonl": lambda: deep("[", "]"),
    "deep-object.jsonl": lambda: b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "deep-value.jsonl": lambda: b'{"prompt": ' + deep("[", "]") + b"}\n",
    "deep-unclosed.json": lambda: b"[" * 500_000,
    "huge-integer.jsonl": lambda: NUMBER % (b"9" * 5000),
    "large-integer.jsonl": lambda: NUMBER % (b"9" * 400),
    "exponent.jsonl": lambda: NUMBER % b"1e999999999",
    "nan.jsonl": lambda: NUMBER % b"NaN" + NUMBER % b"Infinity" + NUMBER % b"-Infinity",
    "huge-label.jsonl": lambda: b'{"question": "q", "choices": [], "label": 1%s}' % (b"1" * 5000),
    "surrogates.jsonl": lambda: b'{"prompt": "\\ud800", "completion": "\\udfff x"}\n',
    "surrogate-key.jsonl": lambda: b'{"\\ud800": "x", "\\u001b[2J": "c"}\n',
    "surrogate-bytes.jsonl": lambda: b'{"prompt": "\xed\xa0\x80", "completion": "c"}\n',
    "no-utf8.jsonl": lambda: b"\xff\xfe\xff" * 1000,
    "utf16-odd.jsonl": lambda: LINES.decode().encode("utf-16")[:-1],
    "utf32.jsonl": lambda: LINES.decode().encode("utf-32"),
    "escapes.jsonl": lambda: b'\x1b]0;title\x07\x1b[2J {"prompt": "p"}\n',
    "numbers.jsonl": lambda: b"1\n2\n",
    "null.jsonl": lambda: b"null\n",
    "strings.json": lambda: b'["a", "b"]',
    "empty-array.json": lambda: b"[]",
    "empty-objects.jsonl": lambda: b"{}\n" * 100,
    "same-key.jsonl": lambda: b'{"prompt": 1, "prompt": [], "prompt": {}}\n',
    "many-keys.jsonl": lambda: json.dumps({f"key {n}": n for n in range(100_000)}).encode(),
    "messages-of-numbers.jsonl": lambda: b'{"messages": [1, null, [[]], {"role": {}}]}\n',
    "wide.csv": lambda: b",".join(b"c%d" % n for n in range(100_000)) + b"\nx\n",
    "unclosed-quote.csv": lambda: b'prompt,completion\n"' + b"x\n" * 100_000,
    "stray-quote.csv": lambda: b'prompt,completion\na"b,"c"d\n',
    "nameless.csv": lambda: b",,,\n1,2,3,4\n",
    "carriage-returns.csv": lambda: b"prompt,completion\r1,2\r3,4\r",
    "binary.csv": lambda: bytes(range(256)) * 100,
    "text.parquet": lambda: LINES,
    "cut.parquet": lambda: parquet()[:-20],
    "no-footer.parquet": lambda: b"PAR1" + b"\0" * 100 + b"PAR1",
    "huge-footer.parquet": lambda: b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1",
    **{
        f"damaged-{seed}.parquet": lambda seed=seed: damaged(parquet(), seed)  # type: ignore[misc]
        for seed in range(12)
    },
    **{
        f"damaged-{seed}.jsonl.gz": lambda seed=seed: damaged(GZIPPED, seed)  # type: ignore[misc]
        for seed in range(4)
    },
    "timestamps.parquet": lambda: column([2**50, -(2**50)], pyarrow.timestamp("s")),
    "timestamps-of-zones.parquet": lambda: column([2**55], pyarrow.timestamp("us", "Nowhere/Else")),
    "dates.parquet": lambda: column([2**30], pyarrow.date32()),
    "durations.parquet": lambda: column([2**62], pyarrow.duration("s")),
    "late.parquet": lambda: column([datetime.datetime(9999, 12, 31)], pyarrow.timestamp("ms")),
    "bytes.parquet": lambda: column([b"\xff\xfe"], pyarrow.binary()),
    "no-columns.parquet": lambda: parquet(pyarrow.table({})),
    "nulls.parquet": lambda: column([None] * 10, pyarrow.null()),
    "repeated.parquet": lambda: repeated(store_schema=False),
    "repeated-words.parquet": lambda: repeated(store_schema=True),
    "twice-the-name.parquet": lambda: parquet(
        pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], ["prompt", "prompt"])
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(autouse=True)
def _a_machine_of_two_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "main_memory", lambda: 2**31)
    monkeypatch.setattr(limits, "LONGEST_LINE", 2**23)
    monkeypatch.setattr(limits, "BEYOND_DOUBT", 2**23)


def tell(call: Callable[[], Any]) -> str:
    """What reading ends with; empty if it gave rows. Other errors are the test's failure."""
    try:
        call()
    except QuartetError as error:
        message = str(error)
    else:
        return ""
    assert message.isprintable(), message
    assert len(message) < 1500
    message.encode()  # no lone surrogate
    return message


def read_everywhere(path: Path, tmp_path: Path) -> str:
    message = tell(lambda: read_file(path))
    tell(lambda: read_prompt_file(path))
    tell(lambda: read_questions(path))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "pairs_train.jsonl").write_text(
        "".join(f'{{"prompt": "{n}", "chosen": "c", "rejected": "r"}}\n' for n in range(40))
    )
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    (folder / f"sft{ending}").symlink_to(path)
    config = DataConfig(source="folder", folder=str(folder))
    told = tell(lambda: (fingerprint(config), build_datasets(config, 0, tmp_path / "out")))
    if message:
        assert told
    return message


@pytest.mark.parametrize("name", CONTENTS)
def test_hostile_content_is_rows_or_one_line(name: str, files: Path, tmp_path: Path) -> None:
    path = files / name
    path.write_bytes(CONTENTS[name]())
    message = read_everywhere(path, tmp_path)
    if name.startswith(
        ("nothing", "blank", "deep", "huge-", "cut", "bomb", "long", "zip", "repeat")
    ):
        assert name in message
    path.unlink()


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "zeros", "loop", "gone"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sft.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        home = os.getcwd()
        os.chdir(tmp_path)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("sft.jsonl")
        os.chdir(home)
    elif kind == "device":
        path.symlink_to("/dev/tty")
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    assert "sft.jsonl" in read_everywhere(path, tmp_path)
    config = DataConfig(source="folder", folder=str(tmp_path))
    assert tell(lambda: fingerprint(config))
    if kind not in ("gone", "folder"):
        with pytest.raises(DataError, match=r"sft\.jsonl"):
            local_files(tmp_path)


@pytest.mark.parametrize(
    "name", [b"two\nlines.jsonl", b"\xff\xfe.jsonl", b"\x1b[2J.jsonl", b" .txt"]
)
def test_names_that_no_terminal_can_show(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(b'{"prompt": "p"\n')
    read_everywhere(path, tmp_path)
    hub = DataConfig(source="sources", preferences=str(tmp_path))
    fingerprint(hub)


@pytest.mark.parametrize(
    "name",
    ["x" * 5000, "~nosuchuser/x", "\0", "a\0b", "x/" * 3000, "/dev/null/x", "/proc/self/mem"],
)
def test_paths_that_are_none(name: str) -> None:
    path = Path(name)
    assert tell(lambda: read_file(path))
    assert tell(lambda: read_prompt_file(path))
    assert tell(lambda: read_questions(path))
    if "\0" not in name:
        assert tell(lambda: fingerprint(DataConfig(source="folder", folder=name)))


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert "holds more than" in tell(lambda: read_file(path))


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:  # the superuser may read everything
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    monkeypatch.setattr(os, "open", refuse)
    assert "a.jsonl cannot be read (Permission denied)" in tell(lambda: read_file(path))


def test_packed_files_of_a_folder_are_unpacked_to_nowhere_first(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive(10 * MIB))
    assert "200 times" in tell(lambda: local_files(tmp_path))
    (tmp_path / "a.zip").write_bytes(archive(MIB)[:-10])
    assert "whole zip file" in tell(lambda: local_files(tmp_path))
    (tmp_path / "a.zip").unlink()
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(b"\0" * (10 * MIB), preset=0))
    assert "200 times" in tell(lambda: local_files(tmp_path))
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(LINES))
    assert local_files(tmp_path) == [tmp_path / "a.jsonl.xz"]


def test_a_file_may_be_as_large_as_memory_allows(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    guard = Guard(path)
    guard.count(most_bytes(), rows=2**31 // limits.BYTES_PER_ROW)
    with pytest.raises(DataError, match="256 MiB"):
        guard.count(1)
    with pytest.raises(DataError, match="1,048,576 rows"):
        Guard(path).count(0, rows=2**20 + 1)
    path.write_bytes(LINES)
    with path.open("rb") as file:
        assert b"".join(Guard(path).passed(unpacked(file, path))) == LINES


def test_one_array_may_stand_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LONGEST_LINE", 1000)
    path = tmp_path / "a.json"
    path.write_text(" " + json.dumps(ROWS))
    assert read_file(path) == ROWS
    path.write_text(json.dumps({"version": 1, "rows": ROWS}))
    assert read_file(path) == ROWS
    path.write_text(json.dumps({"prompt": ROWS}))
    assert "line of more than" in tell(lambda: read_file(path))


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.judging import prompts

    def read_and_change(path: Path, **how: Any) -> list[dict[str, Any]]:
        rows = read_file(path, **how)
        path.write_bytes(LINES + b"\n")
        return rows

    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    assert len(read_prompt_file(path).prompts) == len(ROWS)
    monkeypatch.setattr(prompts, "read_file", read_and_change)
    assert "changed while it was read" in tell(lambda: read_prompt_file(path))


def test_a_file_that_is_gone_before_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    with path.open("rb") as file:
        path.unlink()
        assert b"".join(unpacked(file, path)) == LINES  # what is open stays whole
    assert "No such file" in tell(lambda: read_file(path))
