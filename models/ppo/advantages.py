"""Rewards, advantages, returns and the KL coefficient: functions on (batch, completion) tensors.

Differs from TRL's PPO, on purpose: the score goes on the last completion token itself (TRL puts
it one past the end), and whitening runs over all counted tokens of the whole rollout, not over
a minibatch.

Without a critic a completion is worth what it earned beyond others of the same prompt. Differs from
the papers: RLOO's completions are learned from token by token through PPO's clipped ratio, which
is its own gradient as long as the ratio is 1; GRPO's KL penalty stays in the reward, as in PPO, and
its losses are not divided by each completion's length: every token of a step counts the same.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from models.ppo.config import PPOConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantages:
    """What each token was worth.

    Attributes:
        advantages: (batch, completion), zero where masked.
        returns: (batch, completion) = advantages + values before whitening, zero where masked;
            None without a critic.
    """

    advantages: torch.Tensor
    returns: torch.Tensor | None


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average where the mask is true; what lies under it may be anything, NaN included."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()


def whiten(values: torch.Tensor, mask: torch.Tensor, *, epsilon: float = 1e-8) -> torch.Tensor:
    """Shift and scale to mean 0 and variance 1 over all counted tokens; zero where masked."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return torch.where(mask, (values - mean) * torch.rsqrt(variance + epsilon), 0.0)


def cut_penalties(
    lengths: torch.Tensor, finished: torch.Tensor, limit: int, config: PPOConfig
) -> torch.Tensor:
    """What completions lose that were cut at the limit, or that came near it, (batch,).

    With `overlong_tokens` L before the limit, a completion of n tokens loses the share
    (n - (limit - L)) / L of the penalty, from 0 to 1; one that is cut, all of it.

    Args:
        lengths: Tokens of each completion, (batch,).
        finished: Whether it ended by itself, (batch,).

    Source: Yu et al., DAPO (2025), section 3.4, equation 13.
    """
    share = (~finished).float()
    if config.overlong_tokens:
        beyond = (lengths - (limit - config.overlong_tokens)) / config.overlong_tokens
        share = torch.maximum(share, beyond.clamp(0.0, 1.0))
    return config.missing_eos_penalty * share


def shape_rewards(
    scores: torch.Tensor,
    logprobs: torch.Tensor,
    reference_logprobs: torch.Tensor,
    mask: torch.Tensor,
    *,
    kl_coef: float,
) -> torch.Tensor:
    """Spread a score over a completion: the KL penalty on every token, the score on the last.

    r_t = -kl_coef * (log pi(a_t) - log pi_ref(a_t)) + [t is last] * score; the penalty is the
    signed k1 estimator.

    Args:
        scores: (batch,).
        logprobs: (batch, completion) of the policy that sampled.
        reference_logprobs: (batch, completion).
        mask: (batch, completion), true on a prefix of each row.

    Returns:
        (batch, completion), zero where masked.

    Source: Ziegler et al. 2019 (arXiv 1909.08593), equation 2; Ouyang et al. 2022, section 3.5.
    """
    rewards = torch.where(mask, -kl_coef * (logprobs - reference_logprobs), 0.0)
    last = mask.sum(dim=1) - 1
    return rewards.scatter_add(1, last[:, None], scores[:, None])


def estimate_advantages(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Advantages:
    """Run generalised advantage estimation backwards over each completion.

    delta_t = r_t + gamma * V_{t+1} - V_t;  A_t = delta_t + gamma * lambda * A_{t+1}; both V and A
    are zero past the last counted token, where the episode ends.

    Args:
        rewards: (batch, completion).
        values: (batch, completion), of the state before each token.
        mask: (batch, completion), true on a prefix of each row.
        gae_lambda: 0 is the one-step estimate, 1 the discounted sum of what is still to come.

    Source: Schulman et al. 2016 (arXiv 1506.02438), equations 11 and 16.
    """
    rewards = torch.where(mask, rewards, 0.0)
    values = torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    carried = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(rewards[:, 0])
    for step in reversed(range(rewards.shape[1])):
        delta = rewards[:, step] + gamma * following - values[:, step]
        carried = torch.where(mask[:, step], delta + gamma * gae_lambda * carried, 0.0)
        following = values[:, step]
        advantages[:, step] = carried
    return Advantages(advantages=advantages, returns=advantages + values)


def advantages_of(
    rewards: torch.Tensor,
    values: torch.Tensor | None,
    mask: torch.Tensor,
    groups: torch.Tensor,
    learned: torch.Tensor,
    config: PPOConfig,
) -> Advantages:
    """Estimate advantages in the way that the config names.

    Args:
        rewards: (batch, completion).
        values: (batch, completion) of the critic, if there is one.
        mask: (batch, completion).
        groups: (batch,), see `compare_in_groups`.
        learned: (batch,), rows that the policy learns from; the tokens of others are worth 0.

    Returns:
        Those of gae whitened over the rollout, unless the config leaves them as they are.
    """
    counted = mask & learned[:, None]
    if config.advantages != "gae":
        worth = compare_in_groups(rewards, mask, groups, method=config.advantages)
        return Advantages(advantages=torch.where(counted, worth, 0.0), returns=None)
    assert values is not None
    estimate = estimate_advantages(
        rewards, values, mask, gamma=config.gamma, gae_lambda=config.gae_lambda
    )
    if config.whiten_advantages:
        return replace(estimate, advantages=whiten(estimate.advantages, counted))
    return replace(estimate, advantages=torch.where(counted, estimate.advantages, 0.0))


SMALLEST_STD = 1e-4
"""Added to a group's standard deviation, so that equal rewards are worth 0; as in TRL."""


def compare_in_groups(
    rewards: torch.Tensor,
    mask: torch.Tensor,
    groups: torch.Tensor,
    *,
    method: Literal["rloo", "grpo"],
) -> torch.Tensor:
    """Measure what each completion earned against the others of its prompt, without a critic.

    With R the sum of a completion's rewards, its tokens all get

    - rloo: R - mean of the others' R;
    - grpo: (R - mean of the group's R) / standard deviation (of the sample) of the group's R.

    Args:
        rewards: (batch, completion).
        mask: (batch, completion).
        groups: (batch,), which rows have the same prompt: 0, 1, …, each equally often.

    Returns:
        (batch, completion), zero where masked.

    Source: Ahmadian et al. 2024 (arXiv 2402.14740), section 3.2; Shao et al. 2024 (arXiv
        2402.03300), section 4.1.2.
    """
    order = torch.argsort(groups, stable=True)
    earned = sum_in_groups(rewards, mask, groups)  # (groups, size)
    beyond = earned - earned.mean(dim=1, keepdim=True)
    if method == "rloo":
        size = earned.shape[1]
        worth = beyond * (size / (size - 1))  # R - (sum - R) / (size - 1)
    else:
        worth = beyond / (earned.std(dim=1, keepdim=True) + SMALLEST_STD)
    of_row = torch.empty_like(worth.flatten())
    of_row[order] = worth.flatten()
    return torch.where(mask, of_row[:, None], 0.0)


def sum_in_groups(rewards: torch.Tensor, mask: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Sum each completion's rewards and lay them out by group, (groups, size)."""
    earned = torch.where(mask, rewards, 0.0).sum(dim=1)
    order = torch.argsort(groups, stable=True)
    return earned[order].view(int(groups.max()) + 1, -1)


def kl_k3(logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """Estimate KL(policy || reference) per token: never negative, low variance; for monitoring.

    Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    log_ratio = (reference_logprobs - logprobs).clamp(-20.0, 20.0)
    return torch.expm1(log_ratio) - log_ratio


def explained_variance(
    values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Share of the returns' variance that the critic foresaw: 1 is all, 0 none, below 0 harmful."""
    residual, target = (returns - values)[mask], returns[mask]
    return 1.0 - residual.var(unbiased=False) / target.var(unbiased=False).clamp(min=1e-12)


MAX_ERROR = 0.2


def next_kl_coef(kl_coef: float, kl: float, config: PPOConfig) -> float:
    """Adapt the coefficient after an iteration; without a target it stays the same.

    coef' = coef * (1 + clip(kl / target - 1, -0.2, 0.2) * min(rollouts, horizon) / horizon)

    Iterations are meant to be far shorter than the horizon; one that is longer counts as one of its
    length, or a KL below the target could turn the coefficient negative.

    Args:
        kl: Measured to the reference, nats per completion.

    Source: Ziegler et al. 2019 (arXiv 1909.08593), section 2.2.
    """
    if config.kl_target is None:
        return kl_coef
    error = min(max(kl / config.kl_target - 1.0, -MAX_ERROR), MAX_ERROR)
    rollouts = min(config.rollouts_per_iteration, config.kl_horizon)
    return kl_coef * (1.0 + error * rollouts / config.kl_horizon)
