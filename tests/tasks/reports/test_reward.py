"""A reward model's page: verdict and sentences, pictures of the numbers that it was given."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.reward.best_of_n import BestOfN, measure_best_of_n
from models.reward.config import RewardQualityConfig
from models.reward.endings import Endings
from models.reward.quality import PairQuality, PairScores, measure_pairs, weaknesses
from models.rows import read_json, write_json
from models.statistics.intervals import Interval
from tasks.reports.reward import (
    explain_endings,
    explain_weaknesses,
    quality_page,
    read_curves,
    read_quality,
)
from tasks.reports.reward_plots import plot_accuracy, plot_best_of_n, plot_calibration
from tasks.run.spec import Result


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
        resamples=100, seed=0,
    )  # fmt: skip


def curves(*of: BestOfN) -> dict[tuple[str, str], BestOfN]:
    return {(f"judge {index}", "0 to 1"): one for index, one in enumerate(of)}


GOOD = quality([2, -1, 0.5, 3, -0.2, 1, 4, 0.1], [1, 1, -1, 0, -2, 3, 1, -1])
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "accuracy": lambda path: plot_accuracy(GOOD, path),
    "calibration": lambda path: plot_calibration(GOOD, path),
    "best_of_n": lambda path: plot_best_of_n(curves(curve(), curve()), path),
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
    plot_best_of_n(curves(one), tmp_path / "best.png")
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
        lambda path: plot_best_of_n(curves(curve(1, 1)), path),
        lambda path: plot_best_of_n(curves(curve(2, 3), curve(2, 3)), path),
    ],
)
def test_plot_is_written_when_there_is_next_to_nothing(
    draw: Callable[[Path], None], tmp_path: Path
) -> None:
    draw(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0


# --- the page ------------------------------------------------------------------------------------


def publish(folder: Path, measured: PairQuality, config: RewardQualityConfig, **curves: Any) -> Any:
    """Write results.json as the stage does, and read it as views do."""
    results = {"weaknesses": weaknesses(measured, config), "pairs": measured, "best_of_n": curves}
    write_json(folder / "results.json", results)
    return read_json(folder / "results.json")


def page_of(folder: Path) -> Any:
    (folder / "plots").mkdir()
    result = Result(folder=folder, metrics={}, parameters={}, inputs={})
    return quality_page(result, folder / "plots")


def test_page_begins_with_the_verdict_and_shows_powers_of_two(tmp_path: Path) -> None:
    publish(tmp_path, GOOD, RewardQualityConfig(min_confidence=0.99), gold=curve(samples=6))
    page = page_of(tmp_path)
    assert page.markdown.startswith("**Too weak for PPO.** It ranks 0.750 [")
    assert "| all | 8 | 0.750 [" in page.markdown
    assert "Best of n under the gold judge (0 to 1)" in page.markdown
    rows = [line.split(" | ")[0] for line in page.markdown.splitlines() if line.endswith("1.0 |")]
    assert rows == ["| 1", "| 2", "| 4", "| 6"]
    drawn = ["accuracy.png", "calibration.png", "best_of_n.png"]
    assert [path.name for path in page.pictures] == drawn
    assert all(path.stat().st_size > 0 for path in page.pictures)


def test_page_of_a_strong_model_without_a_judge(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    longer = generator.choice([-1.0, 1.0], 200)
    publish(tmp_path, quality([2.0] * 200, list(longer)), RewardQualityConfig())
    page = page_of(tmp_path)
    assert page.markdown.startswith("**Strong enough for PPO:**")
    assert "Best-of-n was not measured" in page.markdown
    assert len(page.pictures) == 2


@pytest.mark.parametrize(
    ("ended", "wanted", "told"),
    [
        (0.65, 71.0, "95% would end within about 71: set sampling.max_completion_tokens=71"),
        (0.02, math.nan, "Hardly any ends shortly before that, so no limit can be named"),
        (0.93, 40.0, ""),
    ],
)
def test_cut_completions_have_a_sentence_with_the_remedy(
    tmp_path: Path, ended: float, wanted: float, told: str
) -> None:
    endings = Endings(
        limit=40,
        ended=Interval(mean=ended, low=ended - 0.02, high=ended + 0.02),
        length=Interval(mean=26.3, low=25.0, high=27.5),
        wanted=wanted,
        per_tokens=Interval(mean=-0.1, low=-0.2, high=0.1),
        for_ending=Interval(mean=1.8, low=1.5, high=2.1),
    )
    results = {"weaknesses": [], "pairs": GOOD, "endings": endings, "best_of_n": {}}
    write_json(tmp_path / "results.json", results)
    found = explain_endings(read_json(tmp_path / "results.json"))
    assert len(found) == bool(told)
    if told:
        assert found[0].startswith(f"{1 - ended:.0%} of the SFT model's completions are cut at 40")
        assert "one that ends scores +1.800 [+1.500, +2.100] higher" in found[0]
        assert told in found[0]
    text = page_of(tmp_path).markdown
    assert ("**Cut completions.**" in text) == bool(told)
    assert "| score of ending rather than being cut, if both are as long | +1.800 [" in text


def test_results_are_read_as_they_were_measured(tmp_path: Path) -> None:
    scores = PairScores(
        margins=np.array([1.0, -1, 2]), longer=np.array([1.0, 0, -1]), prompts=np.arange(3),
        judge_margins=np.array([1.0, 1, -1]),
    )  # fmt: skip
    measured = measure_pairs(scores, RewardQualityConfig(bootstrap_resamples=100), 0)
    one = curve()
    results = publish(tmp_path, measured, RewardQualityConfig(), judge=one)
    assert read_quality(results) == measured
    assert read_curves(results) == {"judge": one}
    assert "Cohen's kappa" in page_of(tmp_path).markdown


def test_numbers_that_could_not_be_measured_are_read_as_nan(tmp_path: Path) -> None:
    broken = quality([math.nan] * 3, [1.0, 0.0, -1.0])
    results = publish(tmp_path, broken, RewardQualityConfig())
    # NaN is not equal to itself, its text is.
    assert str(read_quality(results)) == str(broken)
    assert "nan" in page_of(tmp_path).markdown


def test_each_failed_rule_has_its_sentence(tmp_path: Path) -> None:
    # Longer, longer, equal, shorter: a model that is exactly the length rule, half right if equal.
    weak = quality([0.01, 0.02, 0.01, -0.01], [1.0, 2.0, 1.0, -1.0])
    longer, shorter, confidence = explain_weaknesses(
        publish(tmp_path, weak, RewardQualityConfig(min_confidence=0.6))
    )
    assert 'of 4 held-out pairs right, the rule "the longer one wins" 0.750: ' in longer
    assert "+0.000 [+0.000, +0.000], and its 95% interval should lie above 0." in longer
    assert 'the rule "the shorter one wins" 0.250' in shorter
    # sigmoid(0.01) = 0.5025, sigmoid(0.02) = 0.5050; mean 0.5031
    assert "mean confidence in its own choice is 0.503, wanted at least 0.6" in confidence


def test_sentences_of_older_results_are_kept() -> None:
    assert explain_weaknesses({"weaknesses": ["It is too weak."]}) == ["It is too weak."]
    assert explain_weaknesses({"weaknesses": []}) == []
