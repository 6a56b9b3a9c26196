"""JSON in every shape that programs write rows in."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tasks.data.reading import json_rows

ROWS = [{"prompt": f"p{n} 你好", "completion": f'c{n} "\\ {{[,'} for n in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
MESSAGES = [{"role": "user", "content": "x"}]

Read = Callable[..., tuple[list[dict[str, Any]], str]]
Refused = Callable[..., str]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("value", "rows", "note"),
    [
        (ROWS, ROWS, ""),
        ({"data": ROWS}, ROWS, "list 'data'"),
        ({"version": "1", "n": 4, "rows": ROWS, "end": [1]}, ROWS, "not read: version, n, end"),
        ({"rows": [{"row_idx": 0, "row": ROWS[0], "truncated_cells": []}]}, ROWS[:1], "'rows'"),
        (ROWS[0], ROWS[:1], ""),
        ({"prompt": MESSAGES, "chosen": MESSAGES}, [{"prompt": MESSAGES, "chosen": MESSAGES}], ""),
        ({"messages": MESSAGES}, [{"messages": MESSAGES}], ""),
        ({key: {str(n): ROWS[n][key] for n in range(4)} for key in ROWS[0]}, ROWS, "'columns'"),
        ({str(n): row for n, row in enumerate(ROWS)}, ROWS, "without its keys"),
        ({f"id-{n}": ROWS[n % 4] for n in range(8)}, ROWS + ROWS, "without its keys"),
        ({key: [row[key] for row in ROWS] for key in ROWS[0]}, ROWS, "one list for each column"),
        (
            {"columns": [*ROWS[0]], "index": [0], "data": [[*row.values()] for row in ROWS]},
            ROWS,
            "'split'",
        ),
        ({"schema": {"fields": []}, "data": ROWS}, ROWS, "not read: schema"),
    ],
)
def test_json_shapes_are_read(
    read: Read, value: Any, rows: list[dict[str, Any]], note: str, indent: int | None
) -> None:
    found, notes = read("a.json", json.dumps(value, indent=indent))
    assert found == rows
    assert note in notes


def test_json_objects_over_several_lines_may_follow_each_other(read: Read) -> None:
    text = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    assert read("a.jsonl", text) == (ROWS, "JSON objects over several lines")
    assert read("b.json", text.replace("\n", "\r\n"))[0] == ROWS


@pytest.mark.parametrize("size", [1, 7, 64])
def test_json_values_may_be_cut_anywhere_by_the_buffer(
    read: Read, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(json_rows, "_READ", size)
    for value in (ROWS, {"n": -1.25e3, "t": True, "data": ROWS}, ROWS[0]):
        rows = ROWS[:1] if value is ROWS[0] else ROWS
        assert read("a.json", json.dumps(value, indent=1))[0] == rows


def test_json_lines_end_as_old_macs_end_them(read: Read) -> None:
    assert read("a.jsonl", LINES.replace("\n", "\r"))[0] == ROWS


def test_json_lines_of_joined_files_have_marks_inside(read: Read) -> None:
    assert read("a.jsonl", f"\ufeff{LINES}\ufeff{LINES}")[0] == ROWS + ROWS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LINES + '{"prompt": "a", "compl', ("line 5", "ends in the middle of a row")),
        ('{"prompt": "a"\n' + LINES, ("line 1", "Expecting ',' delimiter")),
        (json.dumps(ROWS)[:-30], ("line 1", "where the file ends")),
        ("[" + json.dumps(ROWS[0]), ("the array does not end",)),
        ('{"a": 1, "a": 2}\n' * 2, ("line 1", "a key twice: a")),
        ('{"a": 1, "a": 2}', ("a key twice: a",)),
        ('{"data": [{"a": {"b": 1, "b": 2}}]}', ("item 1", "a key twice: b")),
        ("prompt,completion\na,b\n", ("line 1", "header of a table", ".csv")),
        ('[["a", "b"]]', ("item 1", "a list")),
        ('{"prompt": ["a", "b"], "completion": ["c"]}', ("prompt 2, completion 1",)),
        ('{"columns": ["a", "a"], "data": [[1, 2]]}', ("a column twice",)),
        ('{"columns": ["a", "b"], "data": [[1]]}', ("row 1", "got 1 cells", "wanted 2 (a, b)")),
        (LINES + "\0" * 40, ("NUL bytes",)),
    ],
)
def test_json_that_is_broken_is_refused_with_the_place(
    refused: Refused, text: str, words: tuple[str, ...]
) -> None:
    message = refused("a.json", text)
    for word in words:
        assert word in message
