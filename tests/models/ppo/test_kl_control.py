"""KL controllers by hand."""

import pytest

from models.ppo.advantages import next_kl_coef
from models.ppo.config import PPOConfig


def test_without_a_target_the_coefficient_stays() -> None:
    assert next_kl_coef(0.07, 1000.0, PPOConfig()) == 0.07


@pytest.mark.parametrize(
    ("kl", "wanted"),
    [
        (6.0, 0.1),  # on target
        (6.6, 0.1 * (1 + 0.1 * 128 / 10_000)),  # 10% too far
        (5.4, 0.1 * (1 - 0.1 * 128 / 10_000)),
        (60.0, 0.1 * (1 + 0.2 * 128 / 10_000)),  # the error is clipped at 20%
        (-3.0, 0.1 * (1 - 0.2 * 128 / 10_000)),
    ],
)
def test_the_adaptive_coefficient_steers_to_its_target(kl: float, wanted: float) -> None:
    config = PPOConfig(kl_target=6.0, kl_horizon=10_000, rollouts_per_iteration=128)
    assert next_kl_coef(0.1, kl, config) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("kl", "wanted"), [(0.0, 0.1 * 0.8), (60.0, 0.1 * 1.2)])
def test_an_iteration_longer_than_the_horizon_reacts_as_one_of_its_length(
    kl: float, wanted: float
) -> None:
    """128 rollouts of a horizon of 1: unbounded, 1 - 0.2 * 128 would turn the penalty around."""
    config = PPOConfig(kl_target=6.0, kl_horizon=1, rollouts_per_iteration=128)
    assert next_kl_coef(0.1, kl, config) == pytest.approx(wanted, rel=1e-12)
