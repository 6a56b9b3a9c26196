"""What a row is taken for, what `data.format` changes about it, and what the README says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ParameterError
from tasks.data.config import DataConfig
from tasks.data.formats import (
    COLLECTIONS,
    FORMAT_NAMES,
    FORMATS,
    RowProblem,
    convert_row,
    describe_unknown,
    recognise,
    unread_columns,
)
from tasks.data.quality import admit_rows
from tasks.data.tally import Tally

README = Path(__file__).resolve().parents[4] / "tasks" / "README.md"


def readme_rows() -> list[tuple[str, dict[str, Any]]]:
    table = (
        README.read_text(encoding="utf-8").partition("| `data.format` |")[2].partition("\n\n")[0]
    )
    found = re.findall(r"^\| (`.*?`) \| `(\{.*?\})`<br>", table, flags=re.MULTILINE)
    return [(name, json.loads(row)) for name, row in found]


def test_readme_has_every_format_with_a_row_that_is_recognised_as_it() -> None:
    rows = readme_rows()
    assert {name for names, _ in rows for name in re.findall("`(.*?)`", names)} == set(FORMAT_NAMES)
    for names, row in rows:
        found = recognise(row)
        assert found is not None
        assert f"`{found.name}`" in names


@pytest.mark.parametrize("each", FORMATS, ids=FORMAT_NAMES)
def test_a_format_serves_the_collection_that_it_is_made_for(each: Any) -> None:
    assert each.home in each.serves
    assert set(each.serves) <= set(COLLECTIONS)


def test_columns_are_recognised_in_any_letter_case() -> None:
    row = {"Question": "q", "ANSWER": "a", "id": 1}
    found = recognise(row)
    assert found is not None
    assert (found.name, found.home) == ("prompt-completion", "demonstrations")
    assert convert_row("demonstrations", row) == [{"prompt": "q", "completion": "a"}]
    assert unread_columns("demonstrations", row) == unread_columns(None, row) == ["id"]


def test_types_of_values_decide_where_names_do_not() -> None:
    rows = ({"prompt": "q", "answers": [{"answer": "a", "rank": 1}]},
            {"prompt": "q", "answers": None, "completion": "a"},
            {"message_tree_id": "1", "prompt": "q", "completion": "a"})  # fmt: skip
    names = [found.name for row in rows if (found := recognise(row))]
    assert names == ["ranking", "prompt-completion", "prompt-completion"]
    assert recognise({"colour": "red"}) is None
    assert recognise({"Prompt": "a", "prompt": "b"}) is None


def test_a_named_format_is_taken_and_must_fit() -> None:
    row = {"prompt": "q", "completion": "a", "label": "harmless"}
    with pytest.raises(RowProblem, match="label says neither"):
        convert_row("demonstrations", row)
    named = DataConfig(format="prompt-completion")
    assert convert_row("demonstrations", row, named) == [{"prompt": "q", "completion": "a"}]
    with pytest.raises(RowProblem, match=r"do not fit data\.format=alpaca: wanted instr"):
        convert_row("demonstrations", row, DataConfig(format="alpaca"))
    # Files for other purposes are recognised as ever.
    assert convert_row("corpus", {"text": "t"}, named) == [{"text": "t"}]
    assert convert_row("prompts", {"turns": ["t"]}, named) == [{"prompt": "t"}]
    with pytest.raises(ParameterError, match=r"'csv' is no format; choose .*pair.* leave it empty"):
        convert_row("demonstrations", row, DataConfig(format="csv"))


def test_unknown_columns_are_described_by_the_nearest_format() -> None:
    text = describe_unknown("preferences", ["id", "prompt", "chosen"])
    assert text.startswith("got columns id, prompt, chosen; nearest: a pair of completions")
    assert "(lacks rejected)" in text
    plainest = describe_unknown("preferences", ["size"])
    assert "prompt + chosen + rejected" in plainest
    assert plainest.endswith("or another format of tasks/README.md")
    assert describe_unknown("corpus", ["a\nb"]) == r"got columns a\nb; wanted text"


def test_a_file_of_another_kind_is_refused_as_what_it_is() -> None:
    rows = [{"prompt": "q", "completion": "a", "label": True}] * 3
    with pytest.raises(DataError) as caught:
        admit_rows("preferences", rows, label="votes.jsonl", tally=Tally())
    assert str(caught.value) == (
        "votes.jsonl: recognised as a completion with a thumb up or down (KTO), which gives no "
        "preferences; wanted two completions of one prompt and which is better; name it as "
        "demonstrations"
    )
