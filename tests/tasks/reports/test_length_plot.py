"""The picture of a gain against length: what it shows, and with next to nothing to show."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.statistics.intervals import Interval
from tasks.reports.length_plot import plot_gain_against_length

GAINS = (Interval(mean=1.0, low=0.5, high=1.5), Interval(mean=0.2, low=-0.4, high=0.8))


def rows(scores: Sequence[float], tokens: Sequence[int], limit: int = 40) -> list[dict[str, Any]]:
    """Two samples of each prompt."""
    return [
        {"tokens": length, "finished": length < limit, "sample": index % 2, "scores": {"j": score}}
        for index, (score, length) in enumerate(zip(scores, tokens, strict=True))
    ]


def draw(path: Path, baseline: Any, model: Any, gains: Any = GAINS) -> bytes:
    plot_gain_against_length((baseline, model), "j", "judge", gains, path)
    return path.read_bytes()


def test_points_are_prompts_and_marks_are_both_gains(tmp_path: Path, drawn: list[Any]) -> None:
    baseline = rows([0.0, 1.0, 2.0, 2.0, 0.0, 0.0], [10, 20, 40, 40, 10, 10])
    model = rows([1.0, 2.0, 3.0, 4.0, 0.5, 0.5], [10, 10, 30, 20, 40, 10])
    draw(tmp_path / "plot.png", baseline, model)
    points = sorted(tuple(one) for dots in drawn[0].axes[0].collections[:3] for one in
                    getattr(dots, "get_offsets", list)())  # fmt: skip
    assert points == [(-15.0, 1.5), (-5.0, 1.0), (15.0, 0.5)]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == [
        "both end alike", "the model's end more often", "the model's are cut more often",
        "mean gain: +1.000 [+0.500, +1.500]",
        "at equal length and ending: +0.200 [-0.400, +0.800]",
    ]  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_it_is_drawn_when_there_is_next_to_nothing(tmp_path: Path) -> None:
    unknown = (Interval(mean=math.nan), Interval(mean=math.nan))
    one, nothing = rows([1.0, 1.0], [9, 9]), rows([math.nan] * 2, [9, 9])
    assert draw(tmp_path / "a.png", one, one, unknown) == draw(
        tmp_path / "b.png", one, one, unknown
    )
    assert draw(tmp_path / "c.png", nothing, one)
    many = rows([float(number) for number in range(80)], [number % 30 for number in range(80)])
    assert draw(tmp_path / "d.png", many, many[::-1])
