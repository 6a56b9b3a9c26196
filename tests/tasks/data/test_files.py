"""Files as users have them: every ending, every trap of encoding, every message."""

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from models.errors import DataError
from tasks.data.files import open_rows, read_file
from tasks.data.reading import columnar

ROWS = [
    {"prompt": "你好", "completion": ' world, "quoted"\nline'},
    {"prompt": "b", "completion": "é"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_file(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_reads_lines_and_arrays_under_either_ending(tmp_path: Path, name: str) -> None:
    assert read_file(write(tmp_path, name, LINES)) == ROWS
    assert read_file(write(tmp_path, name, json.dumps(ROWS, indent=2))) == ROWS


def test_json_reads_crlf_and_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    text = "\r\n\r\n" + LINES.replace("}\n", "}\r\n\r\n").rstrip()
    assert read_file(write(tmp_path, "a.jsonl", text)) == ROWS


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c"])
def test_json_line_ends_at_newline_only(tmp_path: Path, separator: str) -> None:
    row = {"text": f"one{separator}two"}
    path = write(tmp_path, "a.jsonl", json.dumps(row, ensure_ascii=False) + "\n")
    assert read_file(path) == [row]


def test_json_reads_raw_escape_characters_in_texts(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"text": "\x1b[31mred\tx"}\n')
    assert read_file(path) == [{"text": "\x1b[31mred\tx"}]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_gzip_reads_as_the_plain_file(tmp_path: Path, name: str) -> None:
    data = {"a.txt": "x\ny\n", "a.jsonl": LINES, "a.csv": "text\nx\n"}[name].encode()
    plain = read_file(write(tmp_path, name, data))
    assert read_file(write(tmp_path, name + ".gz", gzip.compress(data))) == plain


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_reads_with_and_without_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    assert read_file(write(tmp_path, "a.jsonl", LINES.encode(encoding))) == ROWS


def test_text_reads_latin1(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "café déjà vu\n".encode("latin-1"))
    assert read_file(path) == [{"text": "café déjà vu"}]


def test_text_reads_byte_85_as_ellipsis_when_not_utf8(tmp_path: Path) -> None:
    # In Windows-1252, which is what "Latin-1" files mostly are, 0x85 is U+2026.
    assert read_file(write(tmp_path, "a.txt", b"wait\x85 caf\xe9\n")) == [{"text": "wait… café"}]


def test_text_refuses_a_byte_that_may_be_anything(tmp_path: Path) -> None:
    # 0x81 is undefined in Windows-1252, a control character in Latin-1, "ü" on DOS, "Å" on a Mac.
    message = refused(write(tmp_path, "a.txt", b"a long line\x81\n"))
    for word in ("no encoding is certain", "mac_roman → 'a long lineÅ'", "data.encoding="):
        assert word in message


def test_text_refuses_damaged_utf8_and_names_the_line(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a.txt", "好\n坏".encode() + b"\xff\n"))
    for word in ("a.txt, line 2", "are not UTF-8", "wanted UTF-8", "iconv"):
        assert word in message


def test_text_refuses_damaged_utf8_when_mostly_ascii(tmp_path: Path) -> None:
    # One sound character beyond ASCII, one broken byte: Latin-1 would read "â€”" for the dash.
    text = "a long English line — with a dash\nand a broken byte ".encode() + b"\xff here\n"
    assert "a.txt, line 2" in refused(write(tmp_path, "a.txt", text))


def test_text_reads_gbk_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "外型非常喜欢\n质量差的太远了\n".encode("gbk"))
    rows = open_rows(path)
    assert list(rows) == [{"text": "外型非常喜欢"}, {"text": "质量差的太远了"}]
    assert any("gb18030" in note and "confidence" in note for note in rows.notes)


def test_txt_is_a_text_a_line_and_keeps_spaces(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", " one \r\n\r\n \t\ntwo\x85three")
    assert read_file(path) == [{"text": " one "}, {"text": "two\x85three"}]


def test_csv_reads_quoted_cells_over_lines(tmp_path: Path) -> None:
    data = '\ufeff prompt ,completion\r\nq,"a ""b"", c\r\nd"\r\n\r\ne,f\r\n'
    assert read_file(write(tmp_path, "a.csv", data)) == [
        {"prompt": "q", "completion": 'a "b", c\r\nd'},
        {"prompt": "e", "completion": "f"},
    ]


def test_csv_reads_cells_longer_than_the_modules_limit(tmp_path: Path) -> None:
    long = "x" * 200_000  # csv's own limit is 131,072
    assert read_file(write(tmp_path, "a.csv", f"text\n{long}\n")) == [{"text": long}]


@pytest.mark.parametrize(
    ("line", "got"),
    [("only one", "1 cells"), ("a,b,c", "3 cells"), ('a,"open', "unexpected end"), ('"a"b,c', "'")],
)
def test_csv_refuses_broken_line(tmp_path: Path, line: str, got: str) -> None:
    message = refused(write(tmp_path, "a.csv", f"prompt,completion\nx,y\n{line}\n"))
    assert "a.csv, line 3" in message
    assert got in message
    for word in ("wanted 2 cells (prompt, completion)", "repair or remove"):
        assert word in message


def test_parquet_reads_nested_rows(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "你好"}]}]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read_file(path) == rows


@pytest.mark.parametrize("write_form", [pyarrow.ipc.new_file, pyarrow.ipc.new_stream])
def test_arrow_rows_of_one_batch_become_objects_a_few_at_a_time(
    tmp_path: Path, write_form: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"at": datetime(2000, 1, 1) + timedelta(days=day)} for day in range(1000)]
    table = pyarrow.Table.from_pylist(rows)
    with write_form(str(tmp_path / "a.arrow"), table.schema) as file:
        file.write_table(table)
    made = []

    def for_json(row: Any) -> Any:
        made.append(row)
        return row

    monkeypatch.setattr(columnar, "for_json", for_json)
    read = iter(open_rows(tmp_path / "a.arrow"))
    assert next(read) == rows[0]
    assert len(made) == columnar.BATCH_ROWS
    assert [*read] == rows[1:]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b""),
        ("a.json", b"[]"),
        ("a.txt", b" \n\n"),
        ("a.csv", b"text\n"),
        ("b.csv", b""),
    ],
)
def test_file_refuses_emptiness(tmp_path: Path, name: str, data: bytes) -> None:
    message = refused(write(tmp_path, name, data))
    for word in (f"{name} is empty", "got no rows", "wanted at least one", "fill the file"):
        assert word in message


@pytest.mark.parametrize(
    ("text", "place", "got"),
    [
        ('{"text": "a"}\n\n{"text": "b"\n', "line 3", "Expecting"),
        ('{"text": "a"}\n"b"\n', "line 2", "a str"),
        ('[{"text": "a"}, 3]', "item 2", "a int"),
        ('[{"text": "a"},\n{"text": b}]', "line 2", "'b}]'"),
    ],
)
def test_json_refuses_unreadable_row_and_names_the_place(
    tmp_path: Path, text: str, place: str, got: str
) -> None:
    message = refused(write(tmp_path, "a.jsonl", text))
    assert f"a.jsonl, {place}:" in message
    assert got in message
    for word in ("wanted one JSON object a line", "repair or remove"):
        assert word in message


def test_gzip_refuses_a_cut_file_and_reads_a_plain_one(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a.jsonl.gz", gzip.compress(LINES.encode())[:-9]))
    for word in ("a.jsonl.gz is not a whole gzip file", "copy the file again"):
        assert word in message
    assert read_file(write(tmp_path, "a.jsonl.gz", LINES)) == ROWS


def test_parquet_refuses_other_content(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a.parquet", LINES))
    for word in ("a.parquet cannot be read", "wanted a whole parquet file", "replace"):
        assert word in message


def test_file_refuses_what_it_cannot_open(tmp_path: Path) -> None:
    message = refused(tmp_path / "absent.jsonl")
    for word in ("absent.jsonl cannot be read (No such file", "wanted a readable file"):
        assert word in message
