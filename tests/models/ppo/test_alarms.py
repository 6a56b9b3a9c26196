"""Alarms: each at its bound and not before, against the first iteration, with a memory."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from models.ppo.alarms import AlarmWatch, describe, lowest_kl
from models.ppo.config import AlarmConfig

USUAL = {
    "objective/kl_to_reference": 2.0,
    "objective/kl_standard_error": 0.1,
    "objective/completion_tokens": 40.0,
    "objective/completion_tokens_std": 10.0,
    "objective/eos_rate": 0.8,
    "objective/entropy": 2.0,
    "objective/distinct_2": 0.5,
    "objective/sampler_error": 1e-5,
    "objective/score": 1.0,
    "value/explained_variance": 0.3,
}


def _names(watch: AlarmWatch, iteration: int, **changes: float) -> list[str]:
    metrics = USUAL | {name.replace("__", "/"): value for name, value in changes.items()}
    return [alarm.name for alarm in watch.look(metrics, iteration)]


def _watch(**changes: Any) -> AlarmWatch:
    watch = AlarmWatch(AlarmConfig(**changes), rollouts=128, critic_warmup=2)
    assert _names(watch, 1) == []  # the yardstick itself is never alarming
    return watch


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"objective__kl_to_reference": -0.3}, []),  # three standard errors: luck
        ({"objective__kl_to_reference": -0.5}, ["kl_negative"]),
        ({"objective__kl_to_reference": -0.0005, "objective__kl_standard_error": 0.0}, []),
        ({"objective__kl_to_reference": 50.0}, []),
        ({"objective__kl_to_reference": 50.1}, ["kl_high"]),
        ({"objective__sampler_error": 1.0}, []),
        ({"objective__sampler_error": 1.1}, ["sampler"]),
        ({"objective__completion_tokens": 45.0}, []),  # half of the standard deviation
        ({"objective__completion_tokens": 45.1}, ["length"]),
        ({"objective__completion_tokens": 35.0, "objective__completion_tokens_std": 1.0}, []),
        ({"objective__completion_tokens": 34.9}, ["length"]),
        ({"objective__eos_rate": 0.601}, []),  # sqrt(0.8 * 0.2) = 0.4
        ({"objective__eos_rate": 0.599}, ["eos_rate"]),
        ({"objective__entropy": 0.21}, []),
        ({"objective__entropy": 0.19}, ["entropy"]),
        ({"objective__distinct_2": 0.24, "objective__score": 0.9}, []),  # the score fell too
        ({"objective__distinct_2": 0.26, "objective__score": 1.1}, []),
        ({"objective__distinct_2": 0.24, "objective__score": 1.1}, ["hacking"]),
    ],
)
def test_each_alarm_at_its_bound(changes: dict[str, float], wanted: list[str]) -> None:
    assert _names(_watch(), 2, **changes) == wanted


@pytest.mark.parametrize(
    ("rollouts", "bound"),
    [
        # Errors as improbable as 4 of a normal distribution, by Student's t with n - 1 degrees of
        # freedom, times sqrt(n / (n - 1)) for the sample's own deviation.
        (2, 10050.439 * math.sqrt(2)),
        (4, 32.616397 * math.sqrt(4 / 3)),
        (128, 4.137924 * math.sqrt(128 / 127)),
        (1_000_000, 4.0),
    ],
)
def test_of_few_rollouts_a_negative_kl_must_be_further_off(rollouts: int, bound: float) -> None:
    assert lowest_kl(0.1, rollouts) == pytest.approx(-0.1 * bound, rel=1e-4)


def test_one_rollout_says_nothing_about_a_negative_kl() -> None:
    watch = AlarmWatch(AlarmConfig(), rollouts=1, critic_warmup=2)
    one = {"objective__kl_to_reference": -40.0, "objective__kl_standard_error": 0.0}
    assert _names(watch, 1, **one) == []


@pytest.mark.parametrize("rollouts", [2, 4, 8])
def test_few_sound_rollouts_raise_no_alarm_by_chance(rollouts: int) -> None:
    """A log-ratio of equal variances has mean KL and variance 2 KL under the policy."""
    generator, kl = np.random.default_rng(0), 0.02
    watch = AlarmWatch(AlarmConfig(), rollouts=rollouts, critic_warmup=None)
    log_ratios = generator.normal(kl, math.sqrt(2 * kl), (2_000, rollouts))
    raised = 0
    for iteration, sampled in enumerate(log_ratios, start=1):
        error = sampled.std() / math.sqrt(rollouts)  # as the monitor has it
        changes = {"kl_to_reference": sampled.mean(), "kl_standard_error": error}
        named = {f"objective__{name}": float(value) for name, value in changes.items()}
        raised += "kl_negative" in _names(watch, iteration, **named)
    assert raised == 0  # 0.06 are to be expected; with 4 errors they were 194, 28 and 2


def test_completions_that_are_all_alike_may_change_a_little() -> None:
    alike = {"objective__completion_tokens_std": 0.0, "objective__eos_rate": 1.0}
    watch = AlarmWatch(AlarmConfig(), rollouts=128, critic_warmup=2)
    assert _names(watch, 1, **alike) == []
    assert _names(watch, 2, objective__completion_tokens=41.0, objective__eos_rate=0.9) == []
    worse = {"objective__completion_tokens": 41.1, "objective__eos_rate": 0.89}
    assert _names(watch, 3, **worse) == ["length", "eos_rate"]


def test_the_critic_may_err_in_its_warm_up_and_a_few_times_after() -> None:
    watch = _watch(critic_patience=3)
    wrong = {"value__explained_variance": -0.1}
    found = [_names(watch, iteration, **wrong) for iteration in range(2, 7)]
    # Iterations 1 and 2 are warm-up; 3, 4 and 5 make three in a row.
    assert found == [[], [], [], ["critic"], ["critic"]]
    assert _names(watch, 7) == []
    assert _names(watch, 8, **wrong) == []  # counted again


def test_without_a_critic_nothing_is_asked_of_it() -> None:
    watch = AlarmWatch(AlarmConfig(critic_patience=1), rollouts=128, critic_warmup=None)
    seen = {name: value for name, value in USUAL.items() if not name.startswith("value/")}
    assert watch.look(seen, 1) == []
    found = watch.look(seen | {"objective/kl_to_reference": 77.0}, 2)
    assert [alarm.name for alarm in found] == ["kl_high"]
    assert set(AlarmWatch.NAMES) - set(watch.names) == {"critic"}


def test_drift_of_few_prompts_is_that_of_several_iterations_together() -> None:
    watch = AlarmWatch(AlarmConfig(), rollouts=128, critic_warmup=None, iterations=4)
    low = {"objective__distinct_2": 0.2, "objective__score": 1.5}
    assert _names(watch, 1) == []
    assert _names(watch, 2, **low) == []  # the mean of 0.5 and 0.2 is above 0.25, half the first
    assert _names(watch, 3) == []
    assert _names(watch, 4, **low) == []
    state = watch.state_dict()
    watch = AlarmWatch(AlarmConfig(), rollouts=128, critic_warmup=None, iterations=4)
    watch.load_state_dict(state)
    assert _names(watch, 5, **low) == []  # 0.2, 0.5, 0.2, 0.2: 0.275
    assert _names(watch, 6, **low) == []
    assert _names(watch, 7, **low) == ["hacking"]  # 0.2 four times
    assert _names(watch, 8, objective__kl_to_reference=50.1) == ["kl_high"]  # at once


def test_an_alarm_says_what_where_and_what_to_do() -> None:
    (alarm,) = _watch().look(USUAL | {"objective/kl_to_reference": 77.0}, 9)
    assert describe(alarm) == (
        "alarm kl_high in iteration 9: objective/kl_to_reference is 77, its bound 50; the actor "
        "left the SFT model: raise ppo.kl_coef, set ppo.kl_target or lower ppo.actor_learning_rate"
    )
    assert set(asdict(alarm)) == {"name", "iteration", "metric", "value", "bound"}


def test_the_watch_remembers_across_a_resume() -> None:
    watch, resumed = (
        _watch(critic_patience=2),
        AlarmWatch(AlarmConfig(critic_patience=2), rollouts=128, critic_warmup=2),
    )
    wrong = {"value__explained_variance": -0.1}
    _names(watch, 3, **wrong)
    resumed.load_state_dict(watch.state_dict())
    assert _names(resumed, 4, objective__completion_tokens=100.0, **wrong) == ["length", "critic"]
