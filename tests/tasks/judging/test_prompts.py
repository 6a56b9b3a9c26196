"""The prompts of an evaluation: drawn different, by seed; a user's own with their references."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ParameterError
from models.rows import write_rows
from tasks.judging.prompts import (
    draw,
    draw_heldout_prompts,
    prepared_prompts,
    read_prompt_file,
)

CHAT = [{"role": "user", "content": "a"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "prompts_heldout.jsonl"
    write_rows(path, [{"prompt": one} for one in ("b", "a", CHAT, "b", "c", CHAT)])
    return path


def test_a_prompt_that_stands_twice_is_drawn_once(path: Path) -> None:
    assert draw_heldout_prompts(path, 99, seed=0) == ["b", "a", CHAT, "c"]


def test_draws_follow_the_seed(path: Path) -> None:
    drawn = [draw_heldout_prompts(path, 2, seed=seed) for seed in range(20)]
    assert drawn[3] == draw_heldout_prompts(path, 2, seed=3)
    assert all(len(one) == 2 and one[0] != one[1] for one in drawn)
    assert len({str(one) for one in drawn}) > 1


def test_no_prompts_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "none.jsonl", [])
    with pytest.raises(DataError, match=r"none\.jsonl holds no held-out prompts.*heldout_fraction"):
        draw_heldout_prompts(tmp_path / "none.jsonl", 1, seed=0)


def test_rows_of_one_prompt_are_one_prompt_with_several_references(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": "a"}, {"prompt": "q"}, {"prompt": "p", "completion": "b"}]
    write_rows(tmp_path / "mine.jsonl", rows)
    found = read_prompt_file(tmp_path / "mine.jsonl").prompts
    assert [(one.prompt, one.references) for one in found] == [("p", ("a", "b")), ("q", ())]


def test_each_line_of_a_text_file_is_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("write a poem\n\nwrite a song\nthe cat sat\nwho are you\n", encoding="utf-8")
    found = [one.prompt for one in read_prompt_file(path).prompts]
    assert found == ["write a poem", "write a song", "the cat sat", "who are you"]


def test_a_row_without_prompt_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", [{"prompt": "p"}, {"colour": "q"}])
    with pytest.raises(DataError, match=r"mine.jsonl, row 2: .* got columns colour"):
        read_prompt_file(tmp_path / "mine.jsonl")
    with pytest.raises(ParameterError, match="is no file ending in"):
        read_prompt_file(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("row", "prompt", "references"),
    [
        ({"question_id": 1, "turns": ["a", "b"]}, "a", ()),
        ({"instruction": "a", "output": "b", "generator": "g"}, "a", ("b",)),
        ({"messages": [*CHAT, {"role": "assistant", "content": "b"}]}, CHAT, ("b",)),
        ({"messages": CHAT}, CHAT, ()),
        ({"prompt": "a", "completion": None}, "a", ()),
        ({"prompt": "a", "completion": "b", "label": False}, "a", ()),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a", ()),
        ({"prompt": "a", "answers": [{"answer": "b", "rank": 1}]}, "a", ()),
        ({"text": "a"}, "a", ()),
    ],
)
def test_prompts_are_read_in_every_format(
    tmp_path: Path, row: dict[str, Any], prompt: Any, references: tuple[str, ...]
) -> None:
    write_rows(tmp_path / "mine.jsonl", [row])
    (found,) = read_prompt_file(tmp_path / "mine.jsonl").prompts
    assert (found.prompt, found.references) == (prompt, references)


def test_a_completion_of_a_wrong_type_is_no_missing_reference(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", [{"prompt": "a", "completion": 3}])
    with pytest.raises(DataError, match=r"mine.jsonl, row 1: wrong type: completion"):
        read_prompt_file(tmp_path / "mine.jsonl")


def test_prompts_become_messages_where_one_is(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "q"}]
    write_rows(tmp_path / "mine.jsonl", [{"prompt": "p", "completion": "a"}, {"prompt": turn}])
    found = read_prompt_file(tmp_path / "mine.jsonl").prompts
    assert found[0].prompt == [{"role": "user", "content": "p"}]
    assert found[0].references == ("a",)


def test_prepared_prompts_are_each_asked_once_with_their_demonstrations(tmp_path: Path) -> None:
    prompts = [{"prompt": one} for one in ("the the", "cat the", "the the")]
    write_rows(tmp_path / "prompts_heldout.jsonl", prompts)
    shown = [{"prompt": "the the", "completion": "cat"}, {"prompt": "no", "completion": "dog"}]
    write_rows(tmp_path / "demonstrations_heldout.jsonl", shown)
    found = prepared_prompts(tmp_path)
    assert [(one.prompt, one.references) for one in found] == [
        ("the the", ("cat",)), ("cat the", ()),
    ]  # fmt: skip


def test_prompts_are_drawn_without_repetition_by_the_seed() -> None:
    asked = list(range(50))
    drawn: list[Any] = draw(asked, 10, seed=0)  # type: ignore[arg-type]
    assert len(set(drawn)) == 10
    assert drawn == draw(asked, 10, seed=0)  # type: ignore[arg-type]
    assert drawn != draw(asked, 10, seed=1)  # type: ignore[arg-type]
    assert draw(asked, 99, seed=0) == asked  # type: ignore[arg-type]
