"""Win rates, matching and the choice of the best: by hand, and against scipy."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from tasks.comparison.frontier import frontier_finding
from tasks.comparison.runs import RunRecord, to_samples
from tasks.comparison.statistics import (
    choose_best,
    head_to_head,
    match_prompts,
    same_judge,
    win_rate,
    win_rates,
)
from tasks.comparison.tables import compile_contents, differences, label_runs, short_differences

GOLD = {"gold": "gold", "score": "reward/a"}


def record(
    name: str = "run",
    *,
    gold: Sequence[float] = (),
    gain: tuple[float, float, float] | None = None,
    verdict: str = "accepted",
    judges: dict[str, str] | None = None,
    sft: str = "sft/s",
    **more: Any,
) -> RunRecord:
    samples = to_samples(
        {"model": model, "prompt": f"p{i}", "sample": 0, "completion": text, "scores": scores}
        for i, number in enumerate(gold)
        for model, text, scores in (("sft", "a", {"gold": 0.5, "reward": 0.0}),
                                    ("ppo", "b", {"gold": number, "reward": number}))
    )  # fmt: skip
    final: dict[str, float] = dict(more.pop("final", {}))
    if gain is not None:
        ends = dict(zip(("gold_gain", "gold_gain_low", "gold_gain_high"), gain, strict=True))
        final = ends | {"gold_ppo": 0.5 + gain[0]} | final
    return RunRecord(
        run_id=f"{name}-id", name=name, verdict=verdict, final=final, samples=samples, sft=sft,
        judges=GOLD if judges is None else judges, **more,
    )  # fmt: skip


# --- what differs -------------------------------------------------------------------------------


def test_differences_keep_rows_that_differ_and_count_the_rest() -> None:
    table, equal = differences("key", [{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "x"}])
    assert table.header == ("key", "A", "B")
    assert table.rows == [("b", "2", "3"), ("c", "–", "x")]
    assert equal == 1


def test_labels_carry_what_differs_and_tell_equal_names_apart() -> None:
    first = RunRecord(run_id="aaaaaaaaaa", name="same", parameters={"ppo.kl_coef": "0.1", "x": "1"})
    second = RunRecord(run_id="bbbbbbbbbb", name="same", parameters={"ppo.kl_coef": "0", "x": "1"})
    assert label_runs([first, second]) == [
        "A: same aaaaaaaa (kl_coef 0.1)",
        "B: same bbbbbbbb (kl_coef 0)",
    ]


def test_short_differences_name_the_group_where_the_last_word_is_not_enough() -> None:
    runs = [
        RunRecord(run_id="1", name="a", parameters={"sft.epochs": "1", "reward.epochs": "1"}),
        RunRecord(run_id="2", name="b", parameters={"sft.epochs": "2", "reward.epochs": "3"}),
    ]
    assert short_differences(runs) == [
        "sft.epochs 1, reward.epochs 1",
        "sft.epochs 2, reward.epochs 3",
    ]


def test_samples_are_shown_with_the_score_of_every_judge() -> None:
    scores = {"gold": 0.5, "judge": 1.0, "vader": -0.25, "reward": 2.0}
    samples = to_samples(
        {"model": model, "prompt": "p", "sample": 0, "completion": model, "scores": scores}
        for model in ("sft", "ppo")
    )
    shown = compile_contents([replace(record(), samples=samples)] * 2).samples[0][1].rows
    assert shown[0] == ("SFT", "sft", "gold 0.50, held-out +1.00, sentiment -0.25, score +2.00")


def test_short_differences_stop_after_three() -> None:
    runs = [
        RunRecord(run_id=str(one), name="a", parameters={f"p{key}": str(one) for key in range(5)})
        for one in (1, 2)
    ]
    assert short_differences(runs)[0] == "p0 1, p1 1, p2 1 and 2 more"


# --- win rates ----------------------------------------------------------------------------------


def test_win_rate_counts_ties_half() -> None:
    # 2 wins, 1 tie, 1 loss of 4: (2 + 0.5) / 4
    assert win_rate([(0, 1), (0, 1), (1, 1), (1, 0)]).mean == 0.625


def test_win_rate_takes_scores_that_differ_by_rounding_for_a_tie() -> None:
    assert win_rate([(0.8, 0.8 + 1e-7), (30.0, 30.0 + 1e-5), (0.5, 0.499)]).mean == 1 / 3


def test_win_rate_interval_agrees_with_scipys_bootstrap() -> None:
    pairs = [(0.0, 1.0)] * 120 + [(1.0, 1.0)] * 50 + [(1.0, 0.0)] * 80
    wins = [1.0] * 120 + [0.5] * 50 + [0.0] * 80
    found = win_rate(pairs)
    expected = stats.bootstrap(
        (wins,), lambda one, axis: one.mean(axis=axis), method="percentile", n_resamples=5000,
        rng=1,
    ).confidence_interval  # fmt: skip
    # Quantiles of 2,000 resamples of a mean with standard error 0.028 wander by about 0.002.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.008)


def test_win_rate_of_one_sided_wins_is_wilsons() -> None:
    # 10 of 10: Wilson's lower end is 10 / (10 + z²) with z = 1.959964, from p = 1.
    found = win_rate([(0.0, 1.0)] * 10)
    assert (found.mean, found.high) == (1.0, pytest.approx(1.0))
    assert found.low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)
    assert win_rate([(1.0, 0.0)] * 10).low == pytest.approx(0.0)


@pytest.mark.parametrize("pairs", [[], [(0.0, math.nan)], [(math.inf, 1.0), (0.0, 1.0)]])
def test_win_rate_is_unknown_without_finite_numbers(pairs: list[tuple[float, float]]) -> None:
    assert math.isnan(win_rate(pairs).mean)


def test_win_rates_hold_each_policy_against_its_sft_model_and_against_the_others() -> None:
    first, second = record(gold=[1, 1, 0.5, 0]), record(gold=[0, 0, 0.5, 1])
    rates = win_rates([first, second])
    assert [(row.first, row.second) for row in rates] == [(0, None), (1, None), (0, 1)]
    # Against 0.5: two wins, a tie and a loss, then the other way round; the first wins 2.5 of 4.
    assert [row.rate.mean for row in rates] == [0.625, 0.375, 0.625]
    assert {(row.judge, row.prompts) for row in rates} == {("gold judge", 4)}


def test_scores_of_different_reward_models_are_not_compared() -> None:
    first = record(gold=[1, 0], judges={"score": "reward/a"})
    second = record(gold=[0, 1], judges={"score": "reward/b"})
    between = win_rates([first, second])[-1]
    assert math.isnan(between.rate.mean)
    assert between.note == "scored by different reward models: not comparable"
    assert win_rates([first, second])[0].judge == "reward model"


def test_the_most_trusted_common_judge_judges() -> None:
    held_out = {"judge_score": "judge/j", "score": "reward/a"}
    assert same_judge([record(judges=GOLD | held_out)]) == "gold"
    assert same_judge([record(judges=GOLD | held_out), record(judges=held_out)]) == "judge_score"
    assert same_judge([record(judges=held_out), record(judges=GOLD)]) == "score"
    assert same_judge([record(judges={}), record(judges=GOLD)]) is None


def test_prompts_are_matched_by_text_and_turn() -> None:
    def run(*prompts: str) -> RunRecord:
        rows = [
            {"model": model, "prompt": text, "sample": 0, "completion": str(place), "scores": {}}
            for model in ("sft", "ppo")
            for place, text in enumerate(prompts)
        ]
        return RunRecord(run_id="r", name="r", samples=to_samples(rows))

    matched = match_prompts([run("a", "b", "a"), run("a", "a", "c", "b")])
    assert [(one.ppo.text, two.ppo.text) for one, two in matched] == [
        ("0", "0"),
        ("1", "3"),
        ("2", "1"),
    ]


def test_conversations_that_end_alike_are_not_one_prompt() -> None:
    def run(*names: str) -> RunRecord:
        rows = [
            {"model": model, "prompt": "Yes please.", "conversation": name, "sample": 0,
             "completion": name, "scores": {}}
            for model in ("sft", "ppo")
            for name in names
        ]  # fmt: skip
        return RunRecord(run_id="r", name="r", samples=to_samples(rows))

    matched = match_prompts([run("a", "b", "c"), run("c", "d", "a")])
    assert [(one.ppo.text, two.ppo.text) for one, two in matched] == [("a", "a"), ("c", "c")]
    assert {one.prompt for pair in matched for one in pair} == {"Yes please."}


# --- the best -----------------------------------------------------------------------------------


def best(*records: RunRecord) -> tuple[int | None, str]:
    found = choose_best(records)
    return found.index, found.sentence


def test_best_is_the_accepted_run_with_the_highest_sure_gain() -> None:
    index, sentence = best(
        record(gain=(0.1, 0.05, 0.15)),
        record(gain=(0.3, 0.2, 0.4)),
        record(gain=(0.9, 0.8, 1.0), verdict="rejected"),
    )
    assert index == 1
    assert sentence == (
        "B is best: accepted, with the highest sure gain over SFT of +0.300 [+0.200, +0.400] by "
        "the gold judge; C was rejected."
    )
    few = record(gain=(0.9, 0.8, 1.0), verdict="not enough prompts")
    _, sentence = best(record(gain=(0.1, 0.05, 0.15)), few, few)
    assert sentence.startswith("A is best: it alone was accepted")
    assert sentence.endswith("; B and C were measured on too few prompts.")


REWARDED = {"score": "reward/a"}
VADER = REWARDED | {"vader_score": "vader_score"}


@pytest.mark.parametrize(
    ("decided_by", "judges", "index", "wanted"),
    [
        (
            "VADER sentiment judge",
            VADER,
            1,
            "gain over SFT of +0.500 [+0.480, +0.520] by the VADER",
        ),
        ("VADER sentiment judge", GOLD | VADER, 1, "by the VADER sentiment judge"),
        ("gold judge", GOLD | VADER, 1, "by the gold judge"),
        ("blind vote of people", VADER, 1, "by the VADER sentiment judge"),
        (
            "blind vote of people",
            REWARDED,
            None,
            "the blind vote of people decided, which compares",
        ),
        ("reward model", REWARDED, 0, "by the reward model"),
        ("", REWARDED, 0, "by the reward model"),
    ],
)
def test_best_is_chosen_by_the_judge_that_decided(
    decided_by: str, judges: dict[str, str], index: int | None, wanted: str
) -> None:
    """The first has the higher score by the reward model, that PPO maximised."""

    def run(score: float, others: float) -> RunRecord:
        gains = {"score": score, "vader_score": others, "gold": others}
        final = {
            f"{name}_gain{end}": gain + more
            for name, gain in gains.items()
            for end, more in (("", 0.0), ("_low", -0.02), ("_high", 0.02))
        }
        return record(final=final, judges=judges, decided_by=decided_by)

    found, sentence = best(run(3.0, 0.05), run(1.0, 0.5))
    assert found == index
    assert wanted in sentence
    if index is not None:  # the table has the gain that was weighed
        shown = compile_contents([run(3.0, 0.05), run(1.0, 0.5)]).headline
        assert shown.header[3].removeprefix("gain ") in sentence


def test_no_run_is_best_where_intervals_overlap() -> None:
    index, sentence = best(record(gain=(0.1, 0.05, 0.25)), record(gain=(0.3, 0.2, 0.4)))
    assert index is None
    assert sentence.startswith("No winner: B has the surest gain")
    assert "A's +0.100 [+0.050, +0.250] overlaps" in sentence


def test_a_sure_head_to_head_decides_where_intervals_overlap() -> None:
    wins = [1.0] * 30 + [0.0] * 10
    index, _ = best(
        record(gain=(0.1, 0.05, 0.25), gold=[0.5] * 40), record(gain=(0.3, 0.2, 0.4), gold=wins)
    )
    assert index == 1
    unsure = [1.0] * 22 + [0.0] * 18
    index, sentence = best(
        record(gain=(0.1, 0.05, 0.25), gold=[0.5] * 40), record(gain=(0.3, 0.2, 0.4), gold=unsure)
    )
    assert index is None
    assert "head to head B wins 55% [" in sentence


def test_gains_over_different_sft_models_are_settled_head_to_head_alone() -> None:
    index, sentence = best(
        record(gain=(0.1, 0.05, 0.15), sft="sft/other"), record(gain=(0.3, 0.2, 0.4))
    )
    assert index is None
    assert "is over another SFT model" in sentence
    index, sentence = best(
        record(gain=(0.1, 0.05, 0.15), gold=[1.0] * 30 + [0.0] * 10, sft="sft/other"),
        record(gain=(0.3, 0.2, 0.4), gold=[0.5] * 40),
    )
    assert index == 0  # it wins, though the other gained more over a weaker SFT model
    assert sentence == (
        "A is best: accepted, with a gain over SFT of +0.100 [+0.050, +0.150] by the gold judge, "
        "and it wins head to head against every other accepted run."
    )


def test_gains_at_equal_length_are_settled_head_to_head_at_equal_length() -> None:
    """The first wins most prompts, but only those where it is shorter."""
    longer = [-4, -3, -2, -1, 1, 2, 3, 4] * 5 + [-5, -4, -3, -2, -6] * 8
    wins = [(length < 0) is (turn % 9 > 0) for turn, length in enumerate(longer)]

    def run(gain: float, scores: Sequence[float], tokens: Sequence[int]) -> RunRecord:
        ends = {"": 0.0, "_low": -0.05, "_high": 0.05}
        final = {
            f"gold_{name}gain{end}": gain + more
            for name in ("", "controlled_")
            for end, more in ends.items()
        }
        samples = to_samples(
            {"model": model, "prompt": f"p{at}", "sample": 0, "completion": model, "tokens": size,
             "finished": True, "scores": {"gold": score}}
            for at, (score, size) in enumerate(zip(scores, tokens, strict=True))
            for model in ("sft", "ppo")
        )  # fmt: skip
        return replace(record(final=final), samples=samples)

    runs = [
        run(0.32, [float(won) for won in wins], [20 + length for length in longer]),
        run(0.3, [0.5] * len(wins), [20] * len(wins)),
    ]
    direct = head_to_head(runs, 0, 1)
    assert direct.rate.low > 0.5
    assert direct.controlled.low < 0.5
    index, sentence = best(*runs)
    assert index is None
    assert "head to head at equal length A wins" in sentence


def test_no_run_is_best_where_none_was_accepted_or_evaluated() -> None:
    assert best(record(verdict="rejected"), record(verdict="")) == (
        None,
        "No winner: no evaluated run was accepted.",
    )
    assert best(record(verdict=""), record(verdict="")) == (
        None,
        "No winner: no run was evaluated.",
    )


def test_no_run_is_best_by_scores_of_different_reward_models() -> None:
    index, sentence = best(
        record(judges={"score": "reward/a"}), record(judges={"score": "reward/b"})
    )
    assert index is None
    assert "different reward models" in sentence


def test_frontier_tells_a_hacked_score_from_a_good_one() -> None:
    good = record(gain=(0.3, 0.2, 0.4), final={"score_ppo": 1.0})
    hacked = record(gain=(0.0, -0.1, 0.1), verdict="rejected", final={"score_ppo": 2.0})
    assert frontier_finding([good, hacked]) == (
        "Over-optimised: B has the highest score, but by the gold judge it gains "
        "+0.000 [-0.100, +0.100] where A gains +0.300 [+0.200, +0.400]."
    )
    close = record(gain=(0.25, 0.15, 0.35), final={"score_ppo": 2.0})
    assert frontier_finding([good, close]).endswith("their intervals overlap.")
    weak = record(gain=(0.1, 0.0, 0.2), final={"score_ppo": 0.5})
    assert frontier_finding([good, weak]).endswith("agree on the highest: A.")
    assert not frontier_finding([record(judges={"score": "a"}), record(judges={"score": "a"})])


def test_frontier_claims_nothing_of_gains_that_cannot_be_compared() -> None:
    good = record(gain=(0.3, 0.2, 0.4), final={"score_ppo": 1.0})
    hacked = {"gain": (0.0, -0.1, 0.1), "final": {"score_ppo": 2.0}}
    finding = frontier_finding([good, record(**hacked, sft="sft/other")])
    assert finding.endswith(
        "they start from different SFT models, so their gains are not compared."
    )
    bare = record(final={"score_ppo": 2.0, "gold_ppo": 0.1})
    assert frontier_finding([good, bare]).endswith(
        "without intervals nothing tells whether that is sure."
    )


def test_interval_of_a_turned_pair_is_turned() -> None:
    """B leads; the pair stands as (A, B), so A's losses are B's wins."""
    losing = [0.0] * 30 + [1.0] * 10
    records = [
        record(gain=(0.1, 0.05, 0.25), gold=losing),
        record(gain=(0.3, 0.2, 0.4), gold=[0.5] * 40),
    ]
    assert best(*records)[0] == 1
    loss, win = head_to_head(records, 0, 1).rate, head_to_head(records, 1, 0).rate
    # The same resamples of 1 - x: equal up to rounding.
    turned = (1 - loss.mean, 1 - loss.high, 1 - loss.low)
    assert (win.mean, win.low, win.high) == pytest.approx(turned, abs=1e-12)


def test_the_surest_gain_leads_not_the_highest_mean() -> None:
    index, sentence = best(record(gain=(0.32, 0.1, 0.5)), record(gain=(0.3, 0.25, 0.35)))
    assert index is None
    assert sentence.startswith("No winner: B has the surest gain")
