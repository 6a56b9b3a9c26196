"""Plots are PNGs of the stated size, equal for equal numbers, and show what they were given."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.reports.training import plot_distributions, plot_loss_curves, plot_score_against_kl

Drawing = Callable[[Path], None]
HISTORIES = {
    "pretrain": {
        "train/loss": [(step, 5 / step) for step in range(1, 101)],
        "pretrain/heldout_loss": [(50, 0.2), (100, 0.1)],
        "train/learning_rate": [(1, 0.1), (100, 0.0)],
    },
    "ppo": {
        "policy/loss": [(1, -0.01), (2, 0.02), (3, math.nan)],
        "value/loss": [(1, 1.0), (2, 0.5), (3, 0.4)],
    },
}
POINTS = [(0.0, -0.2), (0.5, 0.4), (math.nan, 0.5), (1.5, 1.1)]
DRAWINGS: dict[str, Drawing] = {
    "losses": lambda path: plot_loss_curves(HISTORIES, path),
    "kl": lambda path: plot_score_against_kl(POINTS, path),
    "scores": lambda path: plot_distributions([0.1, 0.2], [0.3, 0.9], "score", "1", path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_plot_writes_equal_bytes_for_equal_numbers(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    DRAWINGS[name](first)
    DRAWINGS[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    # The header's width, and no text chunk that could carry a date or a version.
    assert int.from_bytes(first.read_bytes()[16:20], "big") == 1600
    assert b"tEXt" not in first.read_bytes()


def test_plot_loss_curves_has_a_panel_a_stage(tmp_path: Path, drawn: list[Any]) -> None:
    plot_loss_curves(HISTORIES, tmp_path / "losses.png")
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    # PPO's losses differ in scale by 50: a second axis, without a title, shares its panel.
    assert titles == ["Pretraining", "PPO", ""]
    legends = [
        [text.get_text() for text in axes.get_legend().get_texts()] for axes in drawn[0].axes[:2]
    ]
    assert legends == [["train/loss", "heldout_loss"], ["policy/loss", "value/loss (right axis)"]]
    assert drawn[0].axes[1].lines[0].get_xydata().tolist() == [[1, -0.01], [2, 0.02]]
    assert drawn[0].axes[2].lines[0].get_xydata().tolist() == [[1, 1], [2, 0.5], [3, 0.4]]


def test_plot_loss_curves_smooths_long_histories(tmp_path: Path, drawn: list[Any]) -> None:
    points = [(step, float(step % 2)) for step in range(100)]
    plot_loss_curves({"sft": {"train/loss": points}}, tmp_path / "losses.png")
    raw, smooth = drawn[0].axes[0].lines
    assert raw.get_ydata().tolist() == [value for _, value in points]
    # A window of 2 to each side: of 0 1 0 1 0 the mean is 2/5, of 1 0 1 0 1 it is 3/5.
    assert smooth.get_ydata()[50] == pytest.approx(0.4)
    assert smooth.get_ydata()[51] == pytest.approx(0.6)


def test_plot_score_against_kl_names_first_and_last_iteration(
    tmp_path: Path, drawn: list[Any]
) -> None:
    plot_score_against_kl(POINTS, tmp_path / "kl.png")
    axes = drawn[0].axes[0]
    # The third point is not finite; the others keep their numbers.
    assert axes.collections[0].get_offsets().tolist() == [[0.0, -0.2], [0.5, 0.4], [1.5, 1.1]]
    assert axes.collections[0].get_array().tolist() == [1, 2, 4]
    named = [(text.get_text(), tuple(text.xy)) for text in axes.texts]
    assert named == [("iteration 1", (0.0, -0.2)), ("iteration 4", (1.5, 1.1))]
    assert axes.get_xlabel() == "KL to reference (nats per completion)"


def test_plot_distributions_shares_bins_and_marks_means(tmp_path: Path, drawn: list[Any]) -> None:
    sft, ppo = [1, 2, 2, 3], [2, 4, 4, 6]
    plot_distributions(sft, ppo, "completion length", "tokens", tmp_path / "length.png")
    axes = drawn[0].axes[0]
    heights = np.array([bar.get_height() for bar in axes.containers[0]])
    # Whole numbers 1 to 6, a bin each: SFT 1, 2, 1 of 4 samples.
    assert heights.tolist() == [25, 50, 25, 0, 0, 0]
    assert [line.get_xdata()[0] for line in axes.lines] == [2.0, 4.0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["SFT (dashed: mean 2.00)", "PPO (dashed: mean 4.00)"]
    assert axes.get_xlabel() == "completion length (tokens)"
    assert axes.get_title(loc="left") == "Completion length, SFT and PPO"


@pytest.mark.parametrize(
    ("mean", "shown"), [(-0.5, "−0.500"), (99.96, "100"), (128.4, "128"), (1024.0, "1,024")]
)
def test_plot_distributions_writes_names_and_large_means_as_they_are(
    mean: float, shown: str, tmp_path: Path, drawn: list[Any]
) -> None:
    plot_distributions([mean], [mean], "length", "1", tmp_path / "x.png", policy="best-of-n")
    texts = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert texts == [f"SFT (dashed: mean {shown})", f"best-of-n (dashed: mean {shown})"]


def test_plot_distributions_says_how_many_are_not_finite(tmp_path: Path, drawn: list[Any]) -> None:
    plot_distributions([0.5, math.nan], [math.inf, 0.5], "score", "1", tmp_path / "score.png")
    assert drawn[0].axes[0].get_title(loc="right") == "2 not finite, left out"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_loss_curves({}, path),
        lambda path: plot_loss_curves({"ppo": {"policy/loss": [(1, math.nan)]}}, path),
        lambda path: plot_loss_curves({"x": {"a/loss": [(1, 0.0)], "b/loss": [(1, 0.0)]}}, path),
        lambda path: plot_score_against_kl([], path),
        lambda path: plot_score_against_kl([(1.0, 1.0)], path),
        lambda path: plot_distributions([], [], "score", "1", path),
        lambda path: plot_distributions([], [0.25], "score", "1", path),
        lambda path: plot_distributions([math.nan], [math.nan], "score", "1", path),
    ],
)
def test_plot_is_written_when_there_is_next_to_nothing(draw: Drawing, tmp_path: Path) -> None:
    draw(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
