"""Advantages and rewards against definitions written as plain float64 loops, and by hand."""

import math
from typing import Any

import pytest
import torch

from models.ppo.advantages import (
    advantages_of,
    cut_penalties,
    estimate_advantages,
    explained_variance,
    kl_k3,
    masked_mean,
    shape_rewards,
    whiten,
)
from models.ppo.config import PPOConfig

NAN = float("nan")
LENGTHS = [4, 1, 7, 6]
MASK = torch.arange(7) < torch.tensor(LENGTHS)[:, None]  # (4 rows, 7 tokens)


def _random(seed: int) -> torch.Tensor:
    """Numbers where rows count and NaN where they do not, (batch, completion) float64."""
    numbers = torch.randn(MASK.shape, generator=torch.Generator().manual_seed(seed)).double()
    return torch.where(MASK, numbers, NAN)


def _gae_by_definition(
    rewards: list[float], values: list[float], gamma: float, gae_lambda: float
) -> list[float]:
    """A_t = sum over l of (gamma lambda)^l (r_{t+l} + gamma V_{t+l+1} - V_{t+l}): O(T^2)."""
    steps = range(len(rewards))
    following = [*values[1:], 0.0]
    return [
        sum(
            (gamma * gae_lambda) ** (k - t) * (rewards[k] + gamma * following[k] - values[k])
            for k in steps
            if k >= t
        )
        for t in steps
    ]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 0.95, 1.0])
def test_advantages_equal_the_quadratic_definition(gamma: float, gae_lambda: float) -> None:
    rewards, values = _random(0), _random(1)
    got = estimate_advantages(rewards, values, MASK, gamma=gamma, gae_lambda=gae_lambda)
    for row, length in enumerate(LENGTHS):
        own_values = values[row, :length].tolist()
        wanted = _gae_by_definition(rewards[row, :length].tolist(), own_values, gamma, gae_lambda)
        assert got.advantages[row, :length].tolist() == pytest.approx(wanted, abs=1e-12)
        returns = [a + v for a, v in zip(wanted, own_values, strict=True)]
        assert got.returns[row, :length].tolist() == pytest.approx(returns, abs=1e-12)
        assert got.advantages[row, length:].tolist() == [0.0] * (7 - length)
        assert got.returns[row, length:].tolist() == [0.0] * (7 - length)


def test_advantages_with_lambda_1_are_what_is_still_to_come_minus_the_value() -> None:
    # Returns by hand, gamma 0.5: 8; 4 + 0.5 * 8 = 8; -2 + 0.5 * 8 = 2. Values do not matter.
    rewards = torch.tensor([[-2.0, 4.0, 8.0]])
    values = torch.tensor([[1.0, -3.0, 5.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    got = estimate_advantages(rewards, values, mask, gamma=0.5, gae_lambda=1.0)
    assert got.returns.tolist() == [[2.0, 8.0, 8.0]]
    assert got.advantages.tolist() == [[1.0, 11.0, 3.0]]


def test_advantages_with_lambda_0_look_one_step_ahead() -> None:
    # -2 + 0.5 * -3 - 1 = -4.5; 4 + 0.5 * 5 + 3 = 9.5; the last one: 8 + 0 - 5 = 3.
    rewards = torch.tensor([[-2.0, 4.0, 8.0]])
    values = torch.tensor([[1.0, -3.0, 5.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    got = estimate_advantages(rewards, values, mask, gamma=0.5, gae_lambda=0.0)
    assert got.advantages.tolist() == [[-4.5, 9.5, 3.0]]
    assert got.returns.tolist() == [[-3.5, 6.5, 8.0]]


def test_rewards_put_the_score_on_the_last_token_and_the_penalty_on_each() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, NAN, NAN]])
    reference = torch.tensor([[-1.5, -1.0, -3.0], [-2.5, NAN, NAN]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    rewards = shape_rewards(torch.tensor([10.0, -4.0]), logprobs, reference, mask, kl_coef=0.5)
    # -0.5 * (-1 + 1.5) = -0.25; -0.5 * (-2 + 1) = 0.5; 0 + 10.
    # One token is first and last: -0.5 * (-0.5 + 2.5) - 4 = -5; nothing past the end.
    assert rewards.tolist() == [[-0.25, 0.5, 10.0], [-5.0, 0.0, 0.0]]


def test_masked_mean_ignores_what_is_masked() -> None:
    values = torch.tensor([[1.0, NAN], [2.0, 6.0]])
    mask = torch.tensor([[True, False], [True, True]])
    assert float(masked_mean(values, mask)) == 3.0


def test_whitening_has_mean_0_and_variance_1_over_all_counted_tokens() -> None:
    values = 5.0 * _random(2) + 3.0
    whitened = whiten(values, MASK)
    counted = [values[row, step].item() for row, n in enumerate(LENGTHS) for step in range(n)]
    mean = sum(counted) / 18
    std = math.sqrt(sum((value - mean) ** 2 for value in counted) / 18)
    wanted = [(value - mean) / std for value in counted]
    assert whitened[MASK].tolist() == pytest.approx(wanted, abs=1e-8)  # epsilon 1e-8
    assert (whitened[~MASK] == 0.0).all()


def test_whitening_of_equal_values_is_zero_not_noise() -> None:
    assert whiten(torch.full((2, 3), 0.7), torch.ones(2, 3, dtype=torch.bool)).abs().max() < 1e-2


def test_k3_equals_its_definition_and_is_the_divergence_on_average() -> None:
    # ratio = reference / policy = e^0.5: e^0.5 - 1 - 0.5 = 0.148721; equal logprobs: 0.
    got = kl_k3(torch.tensor([-1.0, -2.0]), torch.tensor([-0.5, -2.0]))
    assert got.tolist() == pytest.approx([0.148721, 0.0], abs=1e-6)
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    divergence = sum(
        p * math.log(p / q) for p, q in zip(policy.tolist(), reference.tolist(), strict=True)
    )
    expected = (policy * kl_k3(policy.log(), reference.log())).sum()
    assert float(expected) == pytest.approx(divergence, abs=1e-12)
    reverse = (policy * kl_k3(reference.log(), policy.log())).sum()
    assert float(reverse) != pytest.approx(divergence, abs=1e-2)


def test_k3_is_not_negative_and_exact_for_tiny_differences() -> None:
    difference = torch.linspace(-1e-4, 1e-4, 1001)
    got = kl_k3(torch.zeros(1001), difference)
    assert (got >= 0).all()
    # x^2 / 2 to leading order, 5e-9 at 1e-4; the rounding of 1 + x in float32 is 6e-8, that of
    # numbers near 1e-4 is 7e-12.
    torch.testing.assert_close(got, difference**2 / 2, rtol=1e-3, atol=1e-11)


def test_k3_stays_finite_when_the_distributions_have_parted() -> None:
    assert torch.isfinite(kl_k3(torch.tensor([0.0, -500.0]), torch.tensor([-500.0, 0.0]))).all()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1.0, 2.0, 6.0], 1.0),  # foreseen exactly
        ([8.0, 9.0, 13.0], 1.0),  # up to a constant: variance does not see it
        ([3.0, 3.0, 3.0], 0.0),  # a constant explains nothing
        # returns 1, 2, 6: variance 14/3; residuals 2, 4, 12: variance 4 * 14/3; 1 - 4 = -3
        ([-1.0, -2.0, -6.0], -3.0),
    ],
)
def test_explained_variance_by_hand(values: list[float], wanted: float) -> None:
    returns = torch.tensor([[1.0, 2.0, NAN], [6.0, NAN, NAN]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    laid_out = torch.full((2, 3), NAN)
    laid_out[mask] = torch.tensor(values)
    assert float(explained_variance(laid_out, returns, mask)) == pytest.approx(wanted, abs=1e-6)


# --- cut completions ----------------------------------------------------------------------------


def test_penalty_of_cut_completions_grows_over_the_last_tokens() -> None:
    """Equation 13 of DAPO with a limit of 20 and 8 tokens before it."""
    lengths = torch.tensor([5, 12, 13, 16, 19, 20, 20])
    finished = torch.tensor([True, True, True, True, True, True, False])
    plain = PPOConfig(missing_eos_penalty=2.0)
    assert cut_penalties(lengths, finished, 20, plain).tolist() == [0, 0, 0, 0, 0, 0, 2.0]
    growing = PPOConfig(missing_eos_penalty=2.0, overlong_tokens=8)
    assert cut_penalties(lengths, finished, 20, growing).tolist() == [
        0.0, 0.0, 0.25, 1.0, 1.75, 2.0, 2.0,
    ]  # fmt: skip
    # Cut by a context that has room for less: all of it.
    early = cut_penalties(torch.tensor([6]), torch.tensor([False]), 20, growing)
    assert early.tolist() == [2.0]


@pytest.mark.parametrize("method", ["gae", "rloo", "grpo"])
def test_completions_left_out_are_worth_nothing_and_shift_no_other(method: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(4, 6, generator=generator) for _ in range(2))
    mask = torch.arange(6) < torch.tensor([6, 3, 5, 6])[:, None]
    groups = torch.tensor([0, 0, 1, 1])
    learned = torch.tensor([True, True, False, True])
    config = PPOConfig(advantages=method, group_size=2)
    found = advantages_of(rewards, values, mask, groups, learned, config)
    assert found.advantages[2].eq(0).all()
    assert found.advantages[[0, 1, 3]][mask[[0, 1, 3]]].ne(0).all()
    every = advantages_of(rewards, values, mask, groups, torch.ones(4, dtype=torch.bool), config)
    if method == "gae":
        kept = found.advantages[learned][mask[learned]]
        assert kept.mean().item() == pytest.approx(0, abs=1e-6)
        assert kept.var(unbiased=False).item() == pytest.approx(1, abs=1e-5)
        assert torch.equal(found.returns, every.returns)  # type: ignore[arg-type]
    else:  # what others earned is still what it is compared with
        assert torch.equal(found.advantages[learned], every.advantages[learned])
    nothing = advantages_of(rewards, values, mask, groups, torch.zeros(4, dtype=torch.bool), config)
    assert nothing.advantages.eq(0).all()
