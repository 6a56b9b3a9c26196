"""Tables: what separates cells, what the header is, and what is missing."""

from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., tuple[list[dict[str, Any]], str]]
Refused = Callable[..., str]
ROW = [{"prompt": "Say hi", "completion": "Hi, you"}]


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        ("a.csv", 'prompt,completion\nSay hi,"Hi, you"\n', ""),
        ("a.csv", "prompt;completion\nSay hi;Hi, you\n", "semicolons"),
        ("a.csv", "prompt\tcompletion\nSay hi\tHi, you\n", "tabs"),
        ("a.tsv", "prompt\tcompletion\nSay hi\tHi, you\n", ""),
        ("a.tsv", 'prompt,completion\nSay hi,"Hi, you"\n', "commas"),
        ("a.csv", "prompt|completion\r\nSay hi|Hi, you\r\n", "bars"),
        ("a.csv", 'sep=,\r\nprompt,completion\r\nSay hi,"Hi, you"\r\n', ""),
        ("a.csv", "sep=;\nprompt;completion\nSay hi;Hi, you\n", "semicolons"),
        ("a.csv", '\ufeff\n Prompt ,COMPLETION\nSay hi,"Hi, you"\n', "lower case"),
        ("a.csv", 'prompt,completion\rSay hi,"Hi, you"\r', ""),
        ("a.txt", "prompt\tcompletion\nSay hi\tHi, you\n", "by its content a table"),
    ],
)
def test_table_is_told_by_its_content(read: Read, name: str, text: str, note: str) -> None:
    rows, notes = read(name, text)
    assert rows == ROW
    assert note in notes


def test_quotes_are_told_by_the_content(read: Read) -> None:
    rows, notes = read("a.tsv", 'prompt\tcompletion\nHe said "hi"\t"Yes" she said\n')
    assert rows == [{"prompt": 'He said "hi"', "completion": '"Yes" she said'}]
    assert "belong to the cells" in notes
    rows, notes = read("a.csv", 'prompt,completion\n"a \\"b\\", c",d\n')
    assert rows == [{"prompt": 'a "b", c', "completion": "d"}]
    assert "backslash" in notes


def test_backslashes_before_other_characters_than_quotes_are_text(read: Read) -> None:
    rows, _ = read(
        "a.csv",
        'prompt,completion\n"Solve \\"x\\" in $\\frac{1}{2}\\,$","see C:\\temp\\new, and \\n"\n'
        '"a\\\\b","cp a \\\n  b"\n"c\nd",\\N\n',
    )
    assert rows == [
        {"prompt": 'Solve "x" in $\\frac{1}{2}\\,$', "completion": "see C:\\temp\\new, and \\n"},
        {"prompt": "a\\b", "completion": "cp a \\\n  b"},
        {"prompt": "c\nd", "completion": None},
    ]


def test_backslashes_before_delimiters_and_all_line_breaks_are_escapes(read: Read) -> None:
    unquoted, _ = read("a.csv", 'prompt,completion\nsay \\"a\\"\\, b,c\n')
    assert unquoted == [{"prompt": 'say "a", b', "completion": "c"}]
    mysql, _ = read("a.csv", '"prompt","completion"\n"say \\"a\\"\\\nb","c\\\n\\\nd"\n')
    assert mysql == [{"prompt": 'say "a"\nb', "completion": "c\n\nd"}]


def test_texts_with_commas_may_stand_under_one_name(read: Read) -> None:
    assert read("a.csv", "text\nhello, world\nfoo\n")[0] == [
        {"text": "hello, world"},
        {"text": "foo"},
    ]


def test_cells_without_a_value_are_missing_and_counted(read: Read) -> None:
    rows, notes = read("a.csv", "prompt,completion\na,nan\nb,NULL\nNone,\nNancy,No\n")
    assert [row["completion"] for row in rows] == [None, None, "", "No"]
    assert [row["prompt"] for row in rows] == ["a", "b", None, "Nancy"]
    assert "are missing: 3" in notes


def test_cells_of_messages_are_read_and_other_json_stays_text(read: Read) -> None:
    messages = [{"role": "user", "content": "it's"}]
    for cell in (
        '[{""role"": ""user"", ""content"": ""it\'s""}]',
        repr(messages).replace('"', '""'),
    ):
        rows, notes = read("a.csv", f'id,messages\n1,"{cell}"\n')
        assert rows == [{"id": "1", "messages": messages}]
        assert "messages" in notes
    rows, _ = read("a.csv", 'prompt,completion\nx,"{""name"": 1}"\ny,"[1, 2]"\n')
    assert [row["completion"] for row in rows] == ['{"name": 1}', "[1, 2]"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt, Prompt\na,b\n", ("a column twice: prompt", "rename")),
        ("Say hi to me.,Hi\nBye.,Bye\n", ("no header", "Say hi to me., Hi", "prompt,completion")),
        ("1,Hi\n2,Ho\n", ("no header",)),
        (",,\na,b,c\n", ("no header",)),
        ("prompt;completion\na;b\nc\n", ("line 3", "1 cells", "prompt, completion", "semicolons")),
        (
            'id,messages\n' + '1,"[{""role"": ""a"", ""content"": ""b""}]"\n' * 100 + "2,[{\n",
            ("line 102", "column messages", "[{"),
        ),
    ],
)  # fmt: skip
def test_table_that_is_broken_is_refused(
    refused: Refused, text: str, words: tuple[str, ...]
) -> None:
    message = refused("a.csv", text)
    for word in words:
        assert word in message


def test_column_without_a_name_is_kept_and_named(read: Read) -> None:
    assert read("a.csv", ",prompt\n0,a\n")[0] == [{"unnamed: 0": "0", "prompt": "a"}]
