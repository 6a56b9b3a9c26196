"""The gates of a promotion: bounds by hand, and how often chance opens the gate of the gain."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from models.evaluation.checks import Check
from models.evaluation.config import PromotionConfig
from models.evaluation.gates import Diversity, GateEvidence, pass_gates
from models.statistics.intervals import Interval, paired_bootstrap

CONFIG = PromotionConfig()
GOOD = GateEvidence(
    opponent="champion",
    judge="held-out judge",
    gain=Interval(mean=0.2, low=0.1, high=0.3),
    prompts=512,
    finite={"the challenger's score": 1.0},
    kl_to_reference=1.6,
    length_ratio=1.06,
    eos_rate=0.9,
    eos_rate_opponent=1.0,
    diversity=Diversity(ratio=0.85, matched=None),
    alarms={},
)


def changed(**changes: Any) -> dict[str, Check]:
    """The checks, by name, of good evidence with something changed."""
    verdict = pass_gates(dataclasses.replace(GOOD, **changes), CONFIG)
    checks = {check.name: check for check in verdict.checks}
    assert verdict.accepted == all(check.passed for check in checks.values())
    failed = tuple(check.sentence for check in checks.values() if not check.passed)
    assert verdict.accepted or verdict.reasons == failed
    return checks


def test_gates_open_for_good_evidence_and_give_every_reason() -> None:
    verdict = pass_gates(GOOD, CONFIG)
    assert verdict.accepted
    assert len(verdict.reasons) == len(verdict.checks) == 7
    assert verdict.reasons[0] == (
        "The gain over the champion by the held-out judge is +0.200 [+0.100, +0.300]: "
        "the 95% interval over 512 held-out prompts lies above 0."
    )


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("judged_gain", {"gain": Interval(mean=0.2, low=0.0, high=0.4)}),
        ("judged_gain", {"gain": Interval(mean=0.2, low=-0.1, high=0.5)}),
        ("judged_gain", {"gain": Interval(mean=0.2, low=math.nan, high=math.nan)}),
        ("judged_gain", {"gain": Interval(mean=0.2, low=0.1, high=math.inf)}),
        ("finite_numbers", {"finite": {"the challenger's score": math.nan}}),
        ("kl_to_reference", {"kl_to_reference": 10.1}),
        ("kl_to_reference", {"kl_to_reference": math.nan}),
        ("length_ratio", {"length_ratio": 0.69}),
        ("length_ratio", {"length_ratio": 1.41}),
        ("length_ratio", {"length_ratio": math.nan}),
        ("eos_ratio", {"eos_rate": 0.79}),
        ("eos_ratio", {"eos_rate": math.nan, "eos_rate_opponent": 0.0}),
        ("diversity_ratio", {"diversity": Diversity(ratio=0.79, matched=None)}),
        ("diversity_ratio", {"diversity": Diversity(ratio=0.69, matched=500)}),
        ("diversity_ratio", {"diversity": Diversity(ratio=0.99, matched=99)}),
        ("alarms", {"alarms": {"hacking": 3}}),
    ],
)
def test_each_gate_alone_rejects(name: str, changes: dict[str, Any]) -> None:
    checks = changed(**changes)
    assert [check.name for check in checks.values() if not check.passed] == [name]


@pytest.mark.parametrize(
    "changes",
    [
        {"kl_to_reference": 10.0},
        {"kl_to_reference": -0.1},  # the k1 estimator may come out below zero by chance
        {"length_ratio": 0.7},
        {"length_ratio": 1.4},
        {"eos_rate": 0.72, "eos_rate_opponent": 0.9},  # 0.8, but 0.7999999999999999 in floats
        {"eos_rate": 0.0, "eos_rate_opponent": 0.0},
        {"diversity": Diversity(ratio=0.7, matched=100)},
        {"alarms": {"hacking": 0}},
    ],
)
def test_gates_are_open_at_their_bounds(changes: dict[str, Any]) -> None:
    assert all(check.passed for check in changed(**changes).values())


def test_gates_name_value_bound_and_alarm() -> None:
    checks = changed(kl_to_reference=21.0, alarms={"hacking": 3, "length": 0})
    assert checks["kl_to_reference"].sentence == (
        "KL to the challenger's own reference, nats a completion, is 21.000, wanted at most 10."
    )
    assert checks["alarms"].sentence == "Its training raised alarms: hacking in 3 iterations."


def test_intervals_hold_their_95_percent_and_chance_seldom_opens_the_gate() -> None:
    """200 draws of champion and challenger that are equally good, 128 prompts of 4 samples.

    Judgements are those of a bounded judge, 0 to 1, alike within a prompt and skewed: what the
    gold judge gives. Prompts differ much more than samples, so pairing matters.
    """
    generator = np.random.default_rng(7)
    covered = promoted = 0
    for draw in range(200):
        easy = generator.beta(0.6, 0.4, (128, 1))
        champion, challenger = (
            np.clip(easy + generator.normal(0, 0.3, (128, 4)), 0, 1) for _ in range(2)
        )
        gain = paired_bootstrap(champion, challenger, 500, seed=draw)
        covered += gain.low <= 0 <= gain.high
        promoted += pass_gates(dataclasses.replace(GOOD, gain=gain), CONFIG).accepted
    # Binomial error: what 200 draws would give one time in a thousand is refused.
    assert binomtest(covered, 200, 0.95).pvalue > 0.001, covered
    assert binomtest(promoted, 200, 0.025).pvalue > 0.001, promoted
    # A gate at the mean instead of the interval's end would promote a hundred.
    assert promoted <= 13  # P(more than 13 of 200 at 2.5%) is below 0.001


def test_a_real_gain_passes_the_gate() -> None:
    generator = np.random.default_rng(8)
    passed = 0
    for draw in range(50):
        champion = generator.normal(0.0, 1.0, (512, 4))
        challenger = generator.normal(0.2, 1.0, (512, 4))
        # sd of the gain is sqrt(2 / 2048) = 0.031: 0.2 lies 6.4 of them above zero
        gain = paired_bootstrap(champion, challenger, 200, seed=draw)
        passed += pass_gates(dataclasses.replace(GOOD, gain=gain), CONFIG).accepted
    assert passed == 50
