"""Which rows are kept, and under which reason the others are counted."""

from typing import Any

import pytest

from models.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.formats import Row, RowProblem
from tasks.data.quality import admit_rows, check_row
from tasks.data.report import MOJIBAKE, PLACEHOLDER, REMOVED
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
        {"colour": "p", "size": "x"},
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


def test_admit_refuses_wrong_columns_and_names_the_nearest() -> None:
    rows: list[Row] = [{"prompts": "p", "completion": "x"}, {"id": ""}]
    with pytest.raises(DataError) as caught:
        admit_rows("demonstrations", rows, label="sft.json", tally=Tally())
    for words in (
        "sft.json: wrong columns for demonstrations",
        "got columns completion, id, prompts",
        "nearest: a prompt and its completion (lacks prompt)",
    ):
        assert words in str(caught.value)
    assert "rename" not in str(caught.value)


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


def test_admit_says_of_each_file_what_it_was_taken_for() -> None:
    tally = Tally()
    rows: list[Row] = [
        {"prompt": "p", "completion": "c", "id": 1, "source": "x"},
        {"prompt": "p", "completion": "c", "id": 2},
        {"messages": [turn("user", "p"), turn("assistant", "c")]},
    ]
    admit_rows("demonstrations", rows, label="sft.json", tally=tally)
    file = tally.files[0].report()
    assert (file.label, file.read, file.kept) == ("sft.json", 3, 3)
    assert file.unread == {"id": 2, "source": 1}
    assert file.formats == {"prompt-completion": 2, "messages": 1}


def test_admit_keeps_three_examples_a_reason_with_their_places() -> None:
    tally = Tally()
    rows: list[Row] = [
        {"text": "sound"},
        *({"text": " " * n} for n in range(4)),
        *[{"text": "x"}] * 9,
    ]
    admit_rows("corpus", rows, label="c.jsonl", tally=tally)
    admit_rows(
        "corpus", [{"text": "\x1b[2Jwiped " + "far " * 99 + "{{name}}"}], label="d", tally=tally
    )
    assert [(one.file, one.row, one.text) for one in tally.examples["empty text"]] == [
        ("c.jsonl", 2, '{"text": ""}'),
        ("c.jsonl", 3, '{"text": " "}'),
        ("c.jsonl", 4, '{"text": " "}'),  # spaces are one in an example
    ]
    (removed,) = tally.examples[REMOVED]
    assert removed.text.startswith("\\x1b[2Jwiped far")
    admit_rows("corpus", [{"text": "the caf\u00c3\u00a9 opens"}], label="d", tally=tally)
    assert "caf\u00c3\u00a9" in tally.examples[MOJIBAKE][0].text
    assert (tally.cleaned, tally.placeholders, tally.mojibake) == (1, 1, 1)
    (placeholder,) = tally.examples[PLACEHOLDER]
    assert placeholder.text.endswith("far {{name}}")


def test_admit_counts_pairs_of_rankings_and_their_ties() -> None:
    rows: list[Row] = [{"prompt": "p", "completions": ["a", "b", "c"], "scores": [3, 2, 2]}]
    tally = Tally()
    kept = admit_rows("preferences", rows, label="x", tally=tally)
    assert [(row["chosen"], row["rejected"]) for row in kept] == [("a", "b"), ("a", "c")]
    assert tally.read + tally.expanded == len(kept) + tally.dropped.total() == 3
    assert tally.files[0].dropped.total() == 1


def test_admit_stops_where_most_of_a_file_cannot_be_read() -> None:
    rows: list[Row] = [{"text": "sound"}] * 49 + [{"text": 3}] * 51
    with pytest.raises(DataError) as caught:
        admit_rows("corpus", rows, label="c.jsonl", tally=Tally())
    for words in ("c.jsonl: 51 of 100 rows", "more than a share of 0.5", "data.unreadable_share"):
        assert words in str(caught.value)
    assert len(admit_rows("corpus", rows[:98], label="c.jsonl", tally=Tally())) == 49
    config = DataConfig(unreadable_share=1.0)
    assert len(admit_rows("corpus", rows, label="c.jsonl", tally=Tally(), config=config)) == 49
    # What is read but holds nothing to learn from is no sign of a wrong file.
    empty: list[Row] = [{"text": "sound"}, *[{"text": ""}] * 99]
    assert len(admit_rows("corpus", empty, label="c.jsonl", tally=Tally())) == 1
