"""The pictures show the numbers they were given, and are equal for equal numbers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.reward.best_of_n import BestOfN, measure_best_of_n
from models.reward.config import RewardQualityConfig
from models.reward.quality import PairQuality, PairScores, measure_pairs
from tasks.reports.quality_plots import plot_accuracy, plot_best_of_n, plot_calibration
from tasks.reports.reward import quality_report


def quality(margins: list[float], longer: list[float], bins: int = 4) -> PairQuality:
    scores = PairScores(
        margins=np.array(margins), longer=np.array(longer), prompts=np.arange(len(margins))
    )
    return measure_pairs(scores, RewardQualityConfig(bins=bins, bootstrap_resamples=100), 0)


def curve(prompts: int = 6, samples: int = 8) -> BestOfN:
    generator = np.random.default_rng(0)
    judged = generator.random((prompts, samples))
    return measure_best_of_n(
        judged + generator.random((prompts, samples)), judged, np.ones((prompts, samples)),
        judge="gold judge", unit="0 to 1", resamples=100, seed=0,
    )  # fmt: skip


GOOD = quality([2, -1, 0.5, 3, -0.2, 1, 4, 0.1], [1, 1, -1, 0, -2, 3, 1, -1])
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "accuracy": lambda path: plot_accuracy(GOOD, path),
    "calibration": lambda path: plot_calibration(GOOD, path),
    "best_of_n": lambda path: plot_best_of_n([curve(), curve()], path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_plot_writes_equal_bytes_for_equal_numbers(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    DRAWINGS[name](first)
    DRAWINGS[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert int.from_bytes(first.read_bytes()[16:20], "big") == 1600
    assert b"tEXt" not in first.read_bytes()


def test_plot_accuracy_has_a_bar_a_group_and_a_bin(tmp_path: Path, drawn: list[Any]) -> None:
    plot_accuracy(GOOD, tmp_path / "accuracy.png")
    left, right = drawn[0].axes
    # Chosen longer: margins 2, -1, 1, 4; equal: 3; shorter: 0.5, -0.2, 0.1.
    assert [bar.get_height() for bar in left.patches] == pytest.approx([75, 100, 200 / 3])
    assert [text.get_text() for text in left.texts] == ["4 pairs", "1 pair", "3 pairs"]
    # |margins| sorted: 0.1, -0.2 | 0.5, -1 | 1, 2 | 3, 4
    assert [bar.get_height() for bar in right.patches] == [50, 50, 100, 100]
    assert "75.0% of 8 held-out pairs" in drawn[0].get_suptitle()


def test_plot_calibration_places_bins_at_their_confidence(tmp_path: Path, drawn: list[Any]) -> None:
    plot_calibration(GOOD, tmp_path / "calibration.png")
    top, below = drawn[0].axes
    points = np.array(top.lines[1].get_xydata())
    assert points[:, 0] == pytest.approx([100 * one.confidence for one in GOOD.bins])
    assert points[:, 1].tolist() == [50, 50, 100, 100]
    areas = [bar.get_height() * bar.get_width() for bar in below.patches]
    assert areas == pytest.approx([2, 2, 2, 2])  # the area of a bar is its pairs


def test_plot_best_of_n_has_a_panel_a_judge_and_the_kl_above(
    tmp_path: Path, drawn: list[Any]
) -> None:
    one = curve()
    plot_best_of_n([one], tmp_path / "best.png")
    axes = drawn[0].axes[0]
    ceiling, judged, lot = axes.lines
    assert judged.get_xdata().tolist() == list(range(1, 9))
    assert judged.get_ydata().tolist() == [value.mean for value in one.judged]
    assert list(ceiling.get_ydata()) == list(one.ceiling)
    assert lot.get_ydata()[0] == one.judged[0].mean
    above = axes.child_axes[0]
    # log n - (n - 1) / n: log 2 - 1/2, log 4 - 3/4, log 8 - 7/8
    assert [text.get_text() for text in above.get_xticklabels()] == ["0.19", "0.64", "1.20"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_accuracy(quality([1.0], [0.0]), path),
        lambda path: plot_accuracy(quality([math.nan] * 3, [1.0, 0.0, -1.0]), path),
        lambda path: plot_calibration(quality([1.0], [0.0]), path),
        lambda path: plot_calibration(quality([0.0] * 9, [1.0] * 9), path),
        lambda path: plot_calibration(quality([math.nan] * 3, [1.0, 0.0, -1.0]), path),
        lambda path: plot_best_of_n([curve(1, 1)], path),
        lambda path: plot_best_of_n([curve(2, 3), curve(2, 3)], path),
    ],
)
def test_plot_is_written_when_there_is_next_to_nothing(
    draw: Callable[[Path], None], tmp_path: Path
) -> None:
    draw(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_report_begins_with_the_verdict_and_shows_powers_of_two() -> None:
    text = quality_report(GOOD, [curve(samples=6)], ["It is too weak."])
    assert text.startswith("**Too weak for PPO.** It is too weak.")
    assert "| all | 8 | 0.750 [" in text
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.endswith("1.0 |")]
    assert rows == ["| 1", "| 2", "| 4", "| 6"]
