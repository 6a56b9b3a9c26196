"""Files of rows: the rows to measure on, and some of many."""

import random
from pathlib import Path

import pytest

from models import rows
from models.rows import (
    count_rows,
    first_rows,
    held_out_rows,
    read_rows,
    rows_at,
    write_rows,
)

ROWS = [{"prompt": f"the cat {number}"} for number in range(200)]


def test_all_rows_are_measured_on_where_they_are_few(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_rows(tmp_path / "heldout.jsonl", ROWS)
    assert held_out_rows(tmp_path / "heldout.jsonl") == ROWS
    assert caplog.text == ""


def test_of_many_rows_the_same_are_measured_on_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rows, "MOST_HELD_OUT", 50)
    path = tmp_path / "heldout.jsonl"
    write_rows(path, ROWS)
    found = held_out_rows(path)
    assert len(found) == 50
    assert found == [row for row in ROWS if row in found], "in the order of the file"
    assert "of the 200 rows of heldout.jsonl, 50 are measured on" in caplog.text
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    write_rows(path, shuffled)
    again = held_out_rows(path)
    assert sorted(map(str, again)) == sorted(map(str, found))
    assert again != found


def test_first_rows_are_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS[:3])
    with path.open("a", encoding="utf-8") as file:
        file.write("no JSON\n")
    assert first_rows(path) == ROWS[:1]
    assert first_rows(path, 3) == ROWS[:3]
    with pytest.raises(ValueError):  # noqa: PT011
        read_rows(path)


def test_rows_at_places_are_those_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"text": f"{number} \u2028 é"} for number in range(9)])
    every = read_rows(path)
    assert count_rows(path) == len(every) == 9
    assert rows_at(path, [7, 0, 7, 3]) == [every[at] for at in (7, 0, 7, 3)]
    assert rows_at(path, []) == []
