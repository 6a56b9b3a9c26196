"""The page of a loop's rounds."""

import math
from pathlib import Path
from typing import Any

import pytest

from models.rows import write_json
from tasks.reports.rounds import ROUNDS, rounds_page
from tasks.run.spec import Result


def row(number: int, rate: float, *, accepted: bool = True, judge: str = "gold") -> dict[str, Any]:
    ends = {"mean": rate, "low": rate - 0.05, "high": rate + 0.05}
    return {
        "round": number, "labels": 400.0 * number, "sampled_by": number - 1, "judge": judge,
        "accepted": accepted, "verdict": "accepted" if accepted else "rejected",
        "reasons": ["KL is 12 | above 10."],
        "promoted": "promoted" if accepted else "", "win_rate": ends, "gain": ends, "kl": 1.0,
    }  # fmt: skip


def page(tmp_path: Path, *rows: dict[str, Any]) -> Any:
    write_json(tmp_path / ROUNDS, list(rows))
    return rounds_page(Result(folder=tmp_path, metrics={}, parameters={}, inputs={}), tmp_path)


def test_page_says_who_sampled_what_came_out_and_why_a_round_was_rejected(
    tmp_path: Path, drawn: list[Any]
) -> None:
    made = page(tmp_path, row(1, 0.6), row(2, 0.55, accepted=False), row(3, 0.7))
    lines = made.markdown.splitlines()
    assert lines[2].startswith("| 1 | SFT model | accepted | promoted | 400 | +0.600 [")
    assert lines[4].startswith("| 3 | policy of round 2 | accepted | promoted | 1,200 |")
    assert r"Round 2: rejected, so its policy samples for no later round: KL is 12 \| above" in (
        made.markdown
    )
    assert "by the same standard" not in made.markdown
    axes, behind = drawn[0].axes
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(mark.get_xdata()[0], round(mark.get_ydata()[0])) for mark in marks] == [
        (1, 60), (3, 70), (2, 55),
    ]  # fmt: skip
    assert marks[0].get_color() != marks[2].get_color()
    assert [bar.get_height() for bar in behind.patches] == [400, 800, 1200]


def test_page_of_rounds_that_were_judged_on_no_prompt(tmp_path: Path, drawn: list[Any]) -> None:
    """As when no answer of an endpoint could be read: the verdict is not that it was rejected."""
    unjudged = row(1, math.nan, accepted=False, judge="endpoint")
    unjudged["verdict"] = "not enough prompts"
    made = page(tmp_path, unjudged)
    cells = made.markdown.splitlines()[2].split(" | ")
    assert cells[2:] == ["not enough prompts", "–", "400", "–", "– |"]
    assert "Round 1: not enough prompts, so its policy" in made.markdown
    assert made.tags == {"quartet.verdict": "not enough prompts"}
    assert drawn[0].axes[0].get_ylim() == (35.0, 66.0)


@pytest.mark.parametrize("judge", ["judge", "reward"])
def test_page_says_that_learned_judges_differ_between_rounds(tmp_path: Path, judge: str) -> None:
    made = page(tmp_path, row(1, 0.6, judge=judge))
    assert "rounds are not judged by quite the same standard" in made.markdown
