"""Held-out prompts are drawn different, by seed, and in their order when all are taken."""

from pathlib import Path

import pytest

from models.errors import DataError
from models.rows import write_rows
from tasks.judging.heldout_prompts import draw_heldout_prompts

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
