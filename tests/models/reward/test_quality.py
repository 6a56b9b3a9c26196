"""A reward model's worth: by hand, by enumeration, and against scikit-learn."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, log_loss

from models.errors import DataError, ModelError, ParameterError
from models.language.examples import encode_pairs
from models.language.folders import load_reward_model, new_reward_model, save_model
from models.language.scoring import score_sequences
from models.reward.best_of_n import best_of_n, best_of_n_kl, measure_best_of_n
from models.reward.calibration import (
    brier_score,
    calibrated_error,
    calibration_error,
    margin_bins,
    margin_nll,
)
from models.reward.config import RewardQualityConfig
from models.reward.quality import PairScores, agreement, measure_pairs, weaknesses
from models.reward.ranking import pair_accuracy, score_pairs
from models.rows import write_rows

LN3 = math.log(3)  # sigmoid(log 3) = 3/4
LN9 = math.log(9)  # sigmoid(log 9) = 9/10


# --- length -------------------------------------------------------------------------------------


def test_what_margins_hang_on_length_is_told_from_what_the_better_one_gains() -> None:
    generator = np.random.default_rng(3)
    longer = generator.normal(4, 8, 400)  # the better ones are longer: no liking by itself
    for liking in (0.0, 0.05):
        margins = 1.0 + liking * longer + generator.normal(0, 0.5, 400)
        scores = PairScores(margins=margins, longer=longer, prompts=np.arange(400) // 2)
        found = measure_pairs(scores, RewardQualityConfig(bootstrap_resamples=200), 0)
        assert found.hangs_on_length.low < 10 * liking < found.hangs_on_length.high
        assert found.hangs_on_length.high - found.hangs_on_length.low < 0.3
        assert found.metrics()["reward_quality/margin_per_10_tokens"] == found.hangs_on_length.mean
    alike = PairScores(margins=margins, longer=np.full(400, 3.0), prompts=np.arange(400))
    found = measure_pairs(alike, RewardQualityConfig(bootstrap_resamples=100), 0)
    assert math.isnan(found.hangs_on_length.mean)
    assert "reward_quality/margin_per_10_tokens" not in found.metrics()


# --- calibration --------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    # Four pairs 3/4 sure, two of them right; four pairs 9/10 sure, all right.
    margins = np.array([LN9, LN3, -LN3, LN9, LN3, LN9, -LN3, LN9])
    bins = margin_bins(margins, 2)
    assert [(one.pairs, one.accuracy.mean) for one in bins] == [(4, 0.5), (4, 1.0)]
    assert [one.confidence for one in bins] == pytest.approx([0.75, 0.9])
    assert [(one.low, one.high) for one in bins] == [(LN3, LN3), (LN9, LN9)]
    # 4/8 |0.5 - 0.75| + 4/8 |1 - 0.9| = 0.125 + 0.05
    assert calibration_error(bins) == pytest.approx(0.175)
    # One bin hides it: |6/8 - 0.825| = 0.075
    assert calibration_error(margin_bins(margins, 1)) == pytest.approx(0.075)


def test_calibration_bins_hold_equally_many_pairs_and_never_more_bins_than_pairs() -> None:
    margins = np.random.default_rng(0).normal(size=23)
    assert sorted(one.pairs for one in margin_bins(margins, 5)) == [4, 4, 5, 5, 5]
    highs = [one.high for one in margin_bins(margins, 5)]
    assert highs == sorted(highs)
    assert len(margin_bins(margins[:3], 10)) == 3


def test_calibration_of_a_calibrated_model_is_its_noise() -> None:
    generator = np.random.default_rng(1)
    sizes = np.abs(generator.normal(0, 2, 4000))
    found = []
    for _ in range(40):  # outcomes drawn from the confidences
        right = generator.random(4000) < 1 / (1 + np.exp(-sizes))
        found.append(calibration_error(margin_bins(np.where(right, sizes, -sizes), 10)))
    expected = calibrated_error(sizes, 10, seed=2)
    # One error deviates by about 0.003: the mean of 40 by 0.0005, of the 200 drawn by 0.0002.
    assert np.mean(found) == pytest.approx(expected, abs=0.002)
    assert 0.005 < expected < 0.05
    # Twice the margins: over-confident, far beyond noise.
    assert calibration_error(margin_bins(2 * np.where(right, sizes, -sizes), 10)) > 3 * expected


def test_loss_and_brier_score_equal_those_of_sklearn() -> None:
    margins = np.random.default_rng(2).normal(0, 3, 200)
    won = 1 / (1 + np.exp(-margins))
    assert margin_nll(margins) == pytest.approx(log_loss(np.ones(200), won, labels=[0, 1]))
    assert brier_score(margins) == pytest.approx(brier_score_loss(np.ones(200), won, pos_label=1))
    assert margin_nll(np.array([-1000.0])) == 1000  # no overflow
    assert brier_score(np.array([-1000.0, 1000.0])) == 0.5


# --- best of n ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_best_of_n_equals_the_mean_over_all_subsets(ties: bool) -> None:
    generator = np.random.default_rng(3)
    scores, judged = generator.normal(size=(4, 6)), generator.normal(size=(4, 6))
    if ties:
        scores = np.round(scores)
    found = best_of_n(scores, judged)
    for row, n in itertools.product(range(4), range(1, 7)):
        subsets = []
        for subset in itertools.combinations(range(6), n):
            top = max(scores[row, i] for i in subset)
            best = [judged[row, i] for i in subset if scores[row, i] == top]
            subsets.append(sum(best) / len(best))  # a tie is broken at random
        assert found[row, n - 1] == pytest.approx(sum(subsets) / len(subsets), abs=1e-12)


def test_best_of_n_begins_at_the_mean_and_ends_at_the_best() -> None:
    scores = np.array([[0.0, 2.0, 1.0]])
    judged = np.array([[3.0, 6.0, 0.0]])
    # n = 2: of {0, 2, 1} sorted 0, 1, 2 the middle wins in 1 of 3 pairs, the top in 2: 12/3 + 0/3.
    assert best_of_n(scores, judged)[0].tolist() == pytest.approx([3.0, 4.0, 6.0])


def test_best_of_n_kl_is_that_of_the_order_statistic() -> None:
    # Density of the best of n at quantile u is n u^(n-1): KL = mean of its log, by midpoint sum.
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in (1, 2, 16):
        density = n * u ** (n - 1)
        summed = float((density * np.log(np.maximum(density, 1e-300))).mean())
        assert best_of_n_kl(n) == pytest.approx(summed, abs=1e-6)


def test_best_of_n_refuses_judgements_of_other_samples() -> None:
    with pytest.raises(ParameterError, match=r"shape \(2, 3\) and judgements of \(2, 4\)"):
        best_of_n(np.zeros((2, 3)), np.zeros((2, 4)))


def test_measured_curve_has_a_paired_gain_and_a_ceiling() -> None:
    generator = np.random.default_rng(4)
    # Prompts differ much more than samples: only a paired interval can see the gain.
    judged = generator.normal(0, 10, (50, 1)) + generator.normal(0, 1, (50, 8))
    scores = judged + generator.normal(0, 0.5, (50, 8))
    lengths = np.where(scores == scores.max(axis=1, keepdims=True), 9.0, 1.0)
    curve = measure_best_of_n(scores, judged, lengths, resamples=500, seed=0)
    picked = np.take_along_axis(judged, scores.argmax(axis=1)[:, None], axis=1).mean()
    assert curve.gain.mean == pytest.approx(picked - judged.mean())
    assert 0 < curve.gain.low < curve.gain.high < 3
    assert curve.judged[-1].high - curve.judged[-1].low > 3  # unpaired: the prompts' spread
    assert curve.ceiling[-1] == pytest.approx(judged.max(axis=1).mean())
    assert curve.realised == pytest.approx(
        (picked - judged.mean()) / (judged.max(axis=1).mean() - judged.mean())
    )
    assert (curve.lengths[0], curve.lengths[-1]) == (pytest.approx(2.0), pytest.approx(9.0))
    metrics = curve.metrics("gold")
    assert metrics["reward_quality/gold_best_of_8"] == pytest.approx(picked)
    assert metrics["reward_quality/gold_best_of_n_gain_low"] == curve.gain.low


# --- pairs --------------------------------------------------------------------------------------


def _scores(margins: list[float], longer: list[float], **more: Any) -> PairScores:
    return PairScores(
        margins=np.array(margins),
        longer=np.array(longer),
        prompts=np.arange(len(margins)),
        **more,
    )


def test_pairs_are_compared_with_both_length_rules() -> None:
    quality = measure_pairs(
        _scores([1, 1, -1, 0, 2], [3, -1, 2, 0, -4]), RewardQualityConfig(bins=2), seed=0
    )
    assert quality.accuracy.mean == pytest.approx(3 / 5)  # an equal score is wrong
    longer, shorter = quality.baselines
    assert (longer.accuracy, shorter.accuracy) == (2.5 / 5, 2.5 / 5)
    # Pair by pair: 0, 1, -1, -1/2, 1 and 1, 0, 0, -1/2, 0; means 1/10 both.
    assert (longer.gain.mean, shorter.gain.mean) == (pytest.approx(0.1), pytest.approx(0.1))
    assert {one.name: (one.pairs, one.accuracy.mean) for one in quality.by_length} == {
        "longer": (2, 0.5), "equal": (1, 0.0), "shorter": (2, 1.0)
    }  # fmt: skip
    assert quality.metrics()["reward_quality/over_longer_wins"] == pytest.approx(0.1)


def _noisy(accuracy: float, size: float, longer_share: float, seed: int) -> PairScores:
    """600 pairs ranked right with this probability, whatever their lengths."""
    generator = np.random.default_rng(seed)
    right = generator.random(600) < accuracy
    longer = np.where(generator.random(600) < longer_share, 3.0, -3.0)
    return _scores(list(np.where(right, size, -size)), list(longer))


def test_a_good_reward_model_has_no_weakness() -> None:
    config = RewardQualityConfig()
    assert weaknesses(measure_pairs(_noisy(0.8, 1.5, 0.5, 0), config, 0), config) == []


@pytest.mark.parametrize(
    ("scores", "name", "bound"),
    [
        (_noisy(0.8, 1.5, 0.8, 1), "over_longer_wins", 0),  # right as often as length alone
        (_noisy(0.56, 1.5, 0.44, 2), "over_shorter_wins", 0),  # the same, the other way round
        (_noisy(0.65, 0.02, 0.5, 3), "confidence", 0.53),  # lucky noise
    ],
    ids=["longer", "shorter", "noise"],
)
def test_a_weak_reward_model_fails_one_rule(scores: PairScores, name: str, bound: float) -> None:
    config = RewardQualityConfig()
    quality = measure_pairs(scores, config, 0)
    (found,) = weaknesses(quality, config)
    assert (found.name, found.bound) == (name, bound)
    assert found.value.mean == quality.metrics()[f"reward_quality/{name}"]
    assert not found.value.low > bound  # below it, or without an interval


def test_a_reward_model_that_is_exactly_length_is_weak() -> None:
    longer = np.random.default_rng(5).normal(0.7, 1, 300).round(3)
    scores = _scores(list(longer), list(longer))
    (found,) = weaknesses(measure_pairs(scores, RewardQualityConfig(), 0), RewardQualityConfig())
    assert found.name == "over_longer_wins"
    assert (found.value.mean, found.value.low, found.value.high) == (0, 0, 0)


def test_one_prompt_or_a_broken_model_is_weak_rather_than_passed() -> None:
    config = RewardQualityConfig()
    lonely = PairScores(margins=np.ones(4), longer=np.zeros(4), prompts=np.zeros(4, np.intp))
    quality = measure_pairs(lonely, config, 0)
    assert math.isnan(quality.baselines[0].gain.low)
    assert len(weaknesses(quality, config)) == 2
    assert "reward_quality/over_longer_wins_low" not in quality.metrics()
    broken = measure_pairs(_scores([math.nan] * 20, [1.0, -1.0] * 10), config, 0)
    assert len(weaknesses(broken, config)) == 3


# --- agreement ----------------------------------------------------------------------------------


def test_agreement_equals_sklearns_kappa() -> None:
    generator = np.random.default_rng(7)
    first = generator.normal(0.8, 1, 400)
    second = 0.6 * first + generator.normal(0.3, 0.8, 400)
    found = agreement(first, second, np.arange(400), 400, seed=0)
    assert found.kappa.mean == pytest.approx(cohen_kappa_score(first > 0, second > 0))
    assert found.alike.mean == pytest.approx(float(((first > 0) == (second > 0)).mean()))
    assert found.judge_accuracy.mean == pytest.approx(float((second > 0).mean()))
    assert found.kappa.low < found.kappa.mean < found.kappa.high
    # Large-sample deviation of a share: sqrt(p (1 - p) / n), 1.96 of it to each side.
    half = 1.96 * math.sqrt(found.alike.mean * (1 - found.alike.mean) / 400)
    assert (found.alike.high - found.alike.low) / 2 == pytest.approx(half, rel=0.15)


def test_agreement_of_models_that_never_err_has_no_kappa() -> None:
    found = agreement(np.ones(5), np.ones(5), np.arange(5), 100, seed=0)
    assert found.alike.mean == 1
    assert math.isnan(found.kappa.mean)


# --- networks -----------------------------------------------------------------------------------

ROWS = [
    {"prompt": "the cat", "chosen": " sat on the mat", "rejected": " ran"},
    {"prompt": "a dog", "chosen": " ran home", "rejected": " slept all day"},
    {"prompt": "the cat", "chosen": " slept", "rejected": " home"},
    {"prompt": "the cat", "chosen": " slept", "rejected": " slept"},
]


@pytest.fixture(scope="module")
def reward_folders(
    base_folder: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folders = [tmp_path_factory.mktemp(f"reward-{seed}") for seed in range(2)]
    for seed, folder in enumerate(folders):
        save_model(new_reward_model(base_folder, seed=seed), tokenizer, folder)
    return folders


def test_score_pairs_reads_margins_lengths_and_prompts(
    reward_folders: list[Path], tokenizer: Any, tmp_path: Path
) -> None:
    write_rows(tmp_path / "heldout.jsonl", ROWS)
    found = score_pairs(
        reward=reward_folders[0],
        judge=reward_folders[1],
        heldout=tmp_path / "heldout.jsonl",
        device="cpu",
    )
    pairs = encode_pairs(tokenizer, ROWS, 64)
    assert found.prompts.tolist() == [0, 1, 0]  # the fourth pair has nothing to compare
    assert found.longer.tolist() == [
        len(c) - len(r) for c, r in zip(pairs.chosen, pairs.rejected, strict=True)
    ]
    assert found.judge_margins is not None
    for margins, folder in zip((found.margins, found.judge_margins), reward_folders, strict=True):
        model = load_reward_model(folder)
        better = score_sequences(model, pairs.chosen_sequences)
        worse = score_sequences(model, pairs.rejected_sequences)
        assert margins == pytest.approx((better - worse).numpy())
        assert (margins > 0).mean() == pair_accuracy(model, pairs).mean


def test_score_pairs_says_what_is_missing(reward_folders: list[Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "heldout.jsonl", ROWS[3:])
    with pytest.raises(DataError, match="1 pairs, 1 with equal completions"):
        score_pairs(
            reward=reward_folders[0],
            judge=None,
            heldout=tmp_path / "heldout.jsonl",
            device="cpu",
        )


def test_judge_with_another_tokenizer_is_refused(
    base_folder: Path, reward_folders: list[Path], tokenizer: Any, tmp_path: Path
) -> None:
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["zebra"])
    save_model(new_reward_model(base_folder, seed=0), grown, tmp_path / "judge")
    write_rows(tmp_path / "heldout.jsonl", ROWS)
    models: Any = {"reward": reward_folders[0], "judge": tmp_path / "judge", "device": "cpu"}
    with pytest.raises(ModelError, match=r"the judge .* than the reward model"):
        score_pairs(heldout=tmp_path / "heldout.jsonl", **models)
