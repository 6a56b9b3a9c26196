"""Canonical rows written in any format that can hold them, to any file, are read back equal."""

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.data.config import DataConfig
from tasks.data.conversion.transcripts import is_transcript
from tasks.data.files import read_file
from tasks.data.formats import Collection, convert_row, gather

Row = dict[str, Any]
Write = Callable[[Row], Row]

KEPT = DataConfig(ties="half")

# --- canonical rows -------------------------------------------------------------------------------

MARKS = ("Human:", "User:", "Assistant:", "<|im_", "###")


def is_plain(text: str) -> bool:
    """Whether a text says no more than it says: no marks, no cell without value."""
    empty = text.strip().lower() in ("", "nan", "null", "none", "na", "n/a")
    return not (empty or is_transcript(text) or any(mark in text for mark in MARKS))


LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff")
PIECES = st.one_of(st.text(LETTERS, min_size=1, max_size=6), st.sampled_from(
    [" ", "\n", "\n\n", '"', "'", ",", ";", "\t", "\\", "{}", "[1]", "中文", "é", "🐈", "a b"]
))  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join).filter(is_plain)
WORDS = TEXTS.map(str.strip)


@st.composite
def prompts(draw: Any, texts: st.SearchStrategy[str], turns: int = 2) -> list[dict[str, str]]:
    system = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    count = 2 * draw(st.integers(0, turns)) + 1
    roles = [("user", "assistant")[number % 2] for number in range(count)]
    return [*system, *({"role": role, "content": draw(texts)} for role in roles)]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def demonstrations(texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries({"prompt": prompts(texts), "completion": texts.map(answer)})


def pairs(texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(
        {"prompt": prompts(texts), "chosen": texts.map(answer), "rejected": texts.map(answer)}
    )


def texts_only(*columns: str) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(dict.fromkeys(columns, TEXTS))


# --- writers: the inverse of each format ----------------------------------------------------------

NAMES = {"user": "human", "assistant": "gpt", "system": "system"}


def sharegpt(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"from": NAMES[turn["role"]], "value": turn["content"]} for turn in messages]


def split_system(messages: list[dict[str, str]]) -> tuple[str, list[dict[str, str]]]:
    if messages[0]["role"] == "system":
        return messages[0]["content"], messages[1:]
    return "", messages


def as_lists(messages: list[dict[str, str]]) -> dict[str, list[str]]:
    return {key: [turn[key] for turn in messages] for key in ("role", "content")}


def parts(messages: list[dict[str, str]]) -> list[Row]:
    return [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]}
        for turn in messages
    ]


def alpaca_with_history(row: Row) -> Row:
    system, turns = split_system(row["prompt"])
    assume(system or len(turns) > 1)  # else they would be texts
    history = [
        [turns[at]["content"], turns[at + 1]["content"]] for at in range(0, len(turns) - 1, 2)
    ]
    output = row["completion"][0]["content"]
    return {"system": system, "history": history, "instruction": turns[-1]["content"],
            "input": "", "output": output}  # fmt: skip


def share_with_system(row: Row) -> Row:
    system, turns = split_system(row["prompt"])
    return {"system": system, "conversations": sharegpt([*turns, *row["completion"]])}


DEMONSTRATIONS: list[Write] = [
    dict,
    lambda row: {"messages": row["prompt"] + row["completion"]},
    lambda row: {"conversations": sharegpt(row["prompt"] + row["completion"]), "id": 1},
    lambda row: {"dialog": as_lists(row["prompt"] + row["completion"])},
    lambda row: {"messages": parts(row["prompt"] + row["completion"])},
    lambda row: {"messages": row["prompt"] + row["completion"], "label": True},
    lambda row: {"question": row["prompt"], "answer": row["completion"][0]["content"]},
    share_with_system,
    alpaca_with_history,
]

PAIRS: list[Write] = [
    dict,
    lambda row: {side: row["prompt"] + row[side] for side in ("chosen", "rejected")},
    lambda row: {
        "prompt": row["prompt"][-1]["content"], "id": 3,
        **{side: row["prompt"] + row[side] for side in ("chosen", "rejected")},
    },
    lambda row: {
        "conversations": sharegpt(row["prompt"]),
        **{side: sharegpt(row[side])[0] for side in ("chosen", "rejected")},
    },
    lambda row: {
        "conversation_a": row["prompt"] + row["rejected"],
        "conversation_b": row["prompt"] + row["chosen"], "winner": "model_b",
    },
    lambda row: {
        "prompt": row["prompt"], "responses": [row[side] for side in ("rejected", "chosen")],
        "ranks": [2, 1],
    },
]  # fmt: skip

TEXT_DEMONSTRATIONS: list[Write] = [
    dict,
    lambda row: {"Question": row["prompt"], "Answer": row["completion"]},
    lambda row: {"instruction": row["prompt"], "input": "", "output": row["completion"]},
    lambda row: {"prompt": row["prompt"], "completion": row["completion"], "label": "true"},
]

TEXT_PAIRS: list[Write] = [
    dict,
    lambda row: {"question": row["prompt"], "response_j": row["chosen"],
                 "response_k": row["rejected"]},
    lambda row: {**row, "score_chosen": 0.5, "score_rejected": -2},
    lambda row: {**row, "preferred": "chosen", "source": "me"},
    lambda row: {"instruction": row["prompt"], "output_1": row["rejected"],
                 "output_2": row["chosen"], "preference": 1.9},
    lambda row: {"question": row["prompt"], "answer_0": row["chosen"], "answer_1": row["rejected"],
                 "score_0": 1.0, "score_1": -1.0},
    lambda row: {"history": row["prompt"], "human_ref_A": row["chosen"],
                 "human_ref_B": row["rejected"], "labels": 1},
    lambda row: {"prompt": row["prompt"], "response_a": row["rejected"],
                 "response_b": row["chosen"], "winner": "b"},
    lambda row: {"prompt": row["prompt"], "answers": [
        {"answer": row["rejected"], "rank": 2.0}, {"answer": row["chosen"], "rank": 1.0}]},
    lambda row: {"prompt": row["prompt"], "completions": [row["rejected"], row["chosen"]],
                 "scores": [0.25, 0.75]},
    lambda row: {"info": {"post": row["prompt"]}, "choice": 1,
                 "summaries": [{"text": row["rejected"]}, {"text": row["chosen"]}]},
]  # fmt: skip


def transcript(messages: list[dict[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in messages)


TRANSCRIPTS: list[Write] = [
    lambda row: {side: transcript(row["prompt"] + row[side]) for side in ("chosen", "rejected")},
    lambda row: {
        "prompt": transcript(row["prompt"]) + "\n\nAssistant:",
        **{side: " " + row[side][0]["content"] for side in ("chosen", "rejected")},
    },
]

# --- files ----------------------------------------------------------------------------------------


def write_jsonl(path: Path, rows: list[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_array(path: Path, rows: list[Row]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        for row in rows:
            writer.writerow({
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in row.items()
            })  # fmt: skip


def write_parquet(path: Path, rows: list[Row]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


FILES = st.sampled_from(
    [("a.jsonl", write_jsonl), ("a.json", write_array), ("a.csv", write_csv),
     ("a.parquet", write_parquet)]
)  # fmt: skip


def assert_read_back(collection: Collection, rows: list[Row], write: Write, file: Any) -> None:
    raw = [write(row) for row in rows]
    name, write_file = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_file(path, raw)
        read = list(gather(read_file(path), collection))
    assert [one for row in read for one in convert_row(collection, row, KEPT)] == rows
    asked = [one for row in read for one in convert_row("prompts", row)]
    assert asked == [{"prompt": row["prompt"]} for row in rows]


some = settings(max_examples=30)


@some
@given(st.lists(demonstrations(), min_size=1, max_size=3), st.sampled_from(DEMONSTRATIONS), FILES)
def test_demonstrations_of_messages(rows: list[Row], write: Write, file: Any) -> None:
    assert_read_back("demonstrations", rows, write, file)


@some
@given(st.lists(texts_only("prompt", "completion"), min_size=1, max_size=3),
       st.sampled_from(TEXT_DEMONSTRATIONS), FILES)  # fmt: skip
def test_demonstrations_of_texts(rows: list[Row], write: Write, file: Any) -> None:
    assert_read_back("demonstrations", rows, write, file)


@some
@given(st.lists(pairs(), min_size=1, max_size=3), st.sampled_from(PAIRS), FILES)
def test_preferences_of_messages(rows: list[Row], write: Write, file: Any) -> None:
    assert_read_back("preferences", rows, write, file)


@some
@given(st.lists(texts_only("prompt", "chosen", "rejected"), min_size=1, max_size=3),
       st.sampled_from(TEXT_PAIRS), FILES)  # fmt: skip
def test_preferences_of_texts(rows: list[Row], write: Write, file: Any) -> None:
    assert_read_back("preferences", rows, write, file)


@some
@given(st.lists(pairs(WORDS), min_size=1, max_size=3), st.sampled_from(TRANSCRIPTS), FILES)
def test_preferences_of_transcripts(rows: list[Row], write: Write, file: Any) -> None:
    for row in rows:  # a transcript has no system text
        row["prompt"] = split_system(row["prompt"])[1]
    assert_read_back("preferences", rows, write, file)


@some
@given(texts_only("prompt", "chosen", "rejected"), st.floats(0, 9), st.booleans(), FILES)
def test_margins_and_ties(row: Row, margin: float, tie: bool, file: Any) -> None:
    row |= {"margin": margin} | ({"tie": True} if tie else {})
    assert_read_back("preferences", [row], dict, file)


@some
@given(st.lists(TEXTS, min_size=2, max_size=4, unique=True), TEXTS, FILES)
def test_rankings_of_texts(best_first: list[str], prompt: str, file: Any) -> None:
    """Written worst first: every pair is read back with the better one as chosen."""
    ranked = [{"text": text, "rank": rank} for rank, text in reversed(list(enumerate(best_first)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file[0]
        file[1](path, [{"prompt": prompt, "completions": ranked}])
        (read,) = read_file(path)
    found = {(one["chosen"], one["rejected"]) for one in convert_row("preferences", read)}
    places = range(len(best_first))
    assert found == {(best_first[i], best_first[j]) for i in places for j in places if i < j}
