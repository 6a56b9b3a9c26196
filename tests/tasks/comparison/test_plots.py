"""The comparison's pictures: equal bytes for equal numbers, one colour a run, no empty axes."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex

from models.statistics.intervals import Interval
from tasks.comparison.frontier import plot_frontier
from tasks.comparison.plots import plot_curves, plot_spread, plot_win_rates
from tasks.comparison.runs import RunRecord, to_samples
from tasks.comparison.statistics import WinRate
from tasks.reports.style import INK, RUN_COLOURS

Drawing = Callable[[Path], bool]


def run(number: int, *, sft: str = "shared", verdict: str = "accepted") -> RunRecord:
    gain = 0.1 * number
    return RunRecord(
        run_id=f"id{number}",
        name=f"run $x_{number}$ <b>",  # neither formula nor tag
        verdict=verdict,
        stages={"sft": sft, "ppo": f"ppo{number}"},
        curves={
            "sft/loss": [(1, 2.0), (2, 1.0)],
            "ppo/objective/score": [(1, 0.0), (2, 0.5 * number), (3, math.nan)],
            "ppo/objective/kl_to_reference": [(1, -0.01), (2, 1.0 * number), (3, 2.0)],
        },
        final={
            "gold_ppo": 0.5 + gain,
            "gold_sft": 0.5,
            "gold_gain": gain,
            "gold_gain_low": gain - 0.05,
            "gold_gain_high": gain + 0.05,
            "score_ppo": 0.6 * number,
            "kl_to_reference": 1.1 * number,
        },
        samples=to_samples(
            {
                "model": model,
                "prompt": "p",
                "sample": 0,
                "completion": text,
                "scores": {"reward": score},
            }
            for i in range(number, number + 5)
            for model, text, score in (("sft", "a b", 0.1), ("ppo", "a b c", 0.2 * i))
        ),
        judges={"gold": "gold", "score": "reward/r"},
        sft="sft/s",
    )


RUNS = [run(1), run(2, verdict="rejected")]
LABELS = ["A: one (kl_coef 0.1)", "B: two $5 (kl_coef 0)"]
RATES = [
    WinRate(first=0, second=None, judge="gold judge", prompts=5,
            rate=Interval(mean=0.6, low=0.55, high=0.65)),
    WinRate(first=0, second=1, note="not comparable"),
]  # fmt: skip
DRAWINGS: dict[str, Drawing] = {
    "curves": lambda path: plot_curves(RUNS, LABELS, ("sft", "ppo"), path),
    "frontier": lambda path: plot_frontier(RUNS, LABELS, path),
    "spread": lambda path: plot_spread(RUNS, LABELS, path),
    "win_rates": lambda path: plot_win_rates(LABELS, RATES, path),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAWINGS)
def test_picture_has_equal_bytes_for_equal_numbers(name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert DRAWINGS[name](first)
    assert DRAWINGS[name](second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", DRAWINGS)
def test_picture_names_every_run_below(name: str, tmp_path: Path, drawn: list[Any]) -> None:
    DRAWINGS[name](tmp_path / "plot.png")
    shown = drawn[0].legends[0].get_texts()
    assert [text.get_text() for text in shown][:2] == LABELS
    assert not any(text.get_parse_math() for text in shown)  # a dollar sign starts no formula
    lines = drawn[0].legends[0].get_lines()[:2]
    assert [to_hex(line.get_color()).upper() for line in lines] == [*RUN_COLOURS[:2]]


def test_shared_result_is_drawn_once_in_ink(tmp_path: Path, drawn: list[Any]) -> None:
    plot_curves(RUNS, LABELS, ("sft",), tmp_path / "plot.png")
    assert [line.get_color() for line in drawn[0].axes[0].lines] == [INK]
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["one result that all these runs share"]


def test_results_that_differ_are_drawn_in_the_colour_of_each(
    tmp_path: Path, drawn: list[Any]
) -> None:
    plot_curves([run(1), run(2, sft="other")], LABELS, ("sft",), tmp_path / "plot.png")
    lines = drawn[0].axes[0].lines
    assert [line.get_color() for line in lines] == [*RUN_COLOURS[:2]]
    assert [line.get_linestyle() for line in lines] == ["-", "-"]


def test_frontier_marks_verdicts_and_shows_what_the_judge_sees(
    tmp_path: Path, drawn: list[Any]
) -> None:
    plot_frontier(RUNS, LABELS, tmp_path / "plot.png")
    score, gold = drawn[0].axes
    assert gold.get_title(loc="left") == "What the gold judge sees"
    ends = [tuple(one.get_offsets().data[0]) for one in gold.collections]
    assert ends == [(1.1, 0.6), (2.2, 0.7)]
    texts = [text.get_text() for text in score.get_legend().get_texts()]
    assert texts == ["accepted (held-out prompts)", "rejected (held-out prompts)", "an iteration"]
    plot_frontier([run(1, verdict="not enough prompts")], LABELS, tmp_path / "plot.png")
    assert len(drawn[1].axes[1].collections) == 1  # it has its mark too
    # The first run's way: KL below zero is noise about zero, a score that is no number is left out.
    assert [*score.lines[0].get_xdata()] == [0.0, 1.0]
    assert [*score.lines[0].get_ydata()] == [0.0, 0.5]


def test_scores_of_different_reward_models_are_not_overlaid(
    tmp_path: Path, drawn: list[Any]
) -> None:
    other = RunRecord(
        run_id="x", name="x", samples=RUNS[0].samples, judges={"score": "reward/other"}
    )
    plot_spread([RUNS[0], other], LABELS, tmp_path / "plot.png")
    assert not drawn[0].axes[0].lines
    assert "not on one scale" in drawn[0].axes[0].texts[0].get_text()


def test_win_rates_are_points_with_their_intervals(tmp_path: Path, drawn: list[Any]) -> None:
    plot_win_rates(LABELS, RATES, tmp_path / "plot.png")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A against its SFT model"]
    assert [*axes.lines[0].get_xdata()] == pytest.approx([55.0, 65.0])
    assert [*axes.lines[1].get_xdata()] == pytest.approx([60.0])


def test_win_rates_at_equal_length_are_in_the_picture(tmp_path: Path, drawn: list[Any]) -> None:
    less, more = Interval(mean=0.2, low=0.1, high=0.3), Interval(mean=0.9, low=0.85, high=0.95)
    rates = [replace(RATES[0], controlled=one) for one in (less, more)]
    plot_win_rates(LABELS, rates, tmp_path / "plot.png")
    low, high = drawn[0].axes[0].get_xlim()
    assert low < 10
    assert high > 95


def test_nothing_is_drawn_where_there_is_nothing(tmp_path: Path) -> None:
    empty = [RunRecord(run_id="1", name="a"), RunRecord(run_id="2", name="b")]
    path = tmp_path / "plot.png"
    assert not plot_curves(empty, LABELS, ("sft", "ppo"), path)
    assert not plot_frontier(empty, LABELS, path)
    assert not plot_spread(empty, LABELS, path)
    assert not plot_win_rates(LABELS, RATES[1:], path)
    assert not path.exists()
