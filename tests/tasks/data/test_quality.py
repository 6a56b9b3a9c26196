"""Which rows are kept, and under which reason the others are counted."""

from typing import Any

import pytest

from models.errors import DataError
from tasks.data.formats import Row, RowProblem
from tasks.data.quality import admit_rows, check_row
from tasks.data.tally import Tally


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": " \n"}, "empty text"),
        ({"prompt": "", "completion": "a"}, "empty prompt"),
        ({"prompt": "p", "completion": "\t"}, "empty completion"),
        ({"prompt": "p", "chosen": "", "rejected": "r"}, "empty chosen"),
        ({"prompt": "p", "chosen": "c", "rejected": " "}, "empty rejected"),
        ({"prompt": [turn("user", " ")]}, "empty prompt"),
        (
            {"prompt": [turn("user", "p")], "completion": [turn("assistant", "")]},
            "empty completion",
        ),
        ({"prompt": "p", "chosen": " same", "rejected": "same\n"}, "chosen equal to rejected"),
        (
            {
                "prompt": [turn("user", "p")],
                "chosen": [turn("assistant", "same")],
                "rejected": [turn("assistant", "same")],
            },
            "chosen equal to rejected",
        ),
        ({"prompt": "12345"}, "prompt longer than 4 characters"),
        (
            {"prompt": [turn("system", "123"), turn("user", "45")]},
            "prompt longer than 4 characters",
        ),
    ],
)
def test_check_refuses_row_with_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowProblem) as caught:
        check_row(row, max_prompt_characters=4)
    assert str(caught.value) == reason


def test_check_accepts_sound_rows() -> None:
    check_row({"prompt": "1234", "chosen": "a", "rejected": "b"}, max_prompt_characters=4)
    check_row({"prompt": "long" * 9999, "completion": " a"})


def test_admit_counts_every_row_once() -> None:
    tally = Tally()
    rows: list[Row] = [
        {"prompt": "p", "completion": " kept {{name}}"},
        {"prompt": "p", "completion": ""},
        {"prompt": "p", "completion": ""},
        {"prompt": 1, "completion": "x"},
        {"instruction": "p", "output": "x"},
        {"prompt": "q", "completion": "\x1b[1mbold"},
        {"prompt": "q", "completion": "\x1b[1m"},  # empty once it is cleaned
    ]
    kept = admit_rows("demonstrations", rows, label="sft.jsonl", tally=tally)
    assert kept == [
        {"prompt": "p", "completion": " kept {{name}}"},
        {"prompt": "q", "completion": "bold"},
    ]
    assert tally.labels == ["sft.jsonl"]
    assert tally.read == 7
    assert tally.dropped == {
        "empty completion": 3,
        "wrong type: prompt is neither text nor messages": 1,
        "columns fit no accepted format": 1,
    }
    assert tally.cleaned == 1
    assert tally.placeholders == 1


def test_admit_adds_up_over_several_files() -> None:
    tally = Tally()
    for label in ("a", "b"):
        admit_rows("corpus", [{"text": "x"}, {"text": ""}], label=label, tally=tally)
    assert (tally.labels, tally.read, tally.dropped) == (["a", "b"], 4, {"empty text": 2})


def test_admit_refuses_wrong_columns_and_names_all_accepted() -> None:
    rows: list[Row] = [{"instruction": "p", "output": "x"}, {"input": ""}]
    with pytest.raises(DataError) as caught:
        admit_rows("demonstrations", rows, label="sft.json", tally=Tally())
    for words in (
        "sft.json: wrong columns for demonstrations",
        "got input, instruction, output",
        "wanted prompt + completion, or messages",
        "rename the columns",
    ):
        assert words in str(caught.value)


def test_admit_refuses_a_file_without_usable_rows() -> None:
    rows: list[Row] = [{"prompt": "p", "chosen": "c", "rejected": "c"}] * 3
    with pytest.raises(DataError) as caught:
        admit_rows("preferences", rows, label="pairs.csv", tally=Tally())
    for words in (
        "pairs.csv: no row can be used for preferences",
        "got 3 rows (chosen equal to rejected: 3)",
        "wanted at least one",
        "repair the file",
    ):
        assert words in str(caught.value)
