"""PPO's two losses, as sums over counted tokens.

Sums, not means: the trainer divides by the tokens of the whole optimiser step, so a step taken
in micro-batches equals the step taken at once.
"""

from dataclasses import dataclass

import torch

LOG_RATIO_BOUND = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoss:
    """Sums over the counted tokens; only `loss` carries a gradient.

    Attributes:
        loss: Clipped surrogate, to be minimised.
        approx_kl: k3 estimate of KL(old || new).
        clipped: How many tokens the clip holds back.
        ratio: Probability ratios new / old.
        ratio_max: The largest ratio (a maximum, not a sum).
        ratio_error: The largest distance of a ratio from 1 (a maximum, not a sum).
    """

    loss: torch.Tensor
    approx_kl: torch.Tensor
    clipped: torch.Tensor
    ratio: torch.Tensor
    ratio_max: torch.Tensor
    ratio_error: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueLoss:
    """Sums over the counted tokens; only `loss` carries a gradient."""

    loss: torch.Tensor
    clipped: torch.Tensor


def policy_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip_range: float,
    importance: torch.Tensor | None = None,
) -> PolicyLoss:
    """Sum max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c)) over the counted tokens.

    Args:
        logprobs: (batch, completion) of the actor now, with gradient.
        old_logprobs: (batch, completion) of the actor that sampled.
        advantages: (batch, completion), whitened.
        mask: (batch, completion).
        importance: (batch, completion), a weight of each token's loss; absent where the actor's own
            distribution was sampled from.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.
    """
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0.0)
    log_ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    ratio = log_ratio.exp()
    advantages = torch.where(mask, advantages, 0.0)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    surrogate = torch.maximum(unclipped, clipped)
    if importance is not None:
        surrogate = surrogate * torch.where(mask, importance, 0.0)
    with torch.no_grad():
        k3 = torch.where(mask, torch.expm1(log_ratio) - log_ratio, 0.0)
        counted = ratio[mask]
    return PolicyLoss(
        loss=surrogate.sum(),
        approx_kl=k3.sum(),
        clipped=(clipped > unclipped).sum(),
        ratio=counted.sum(),
        ratio_max=counted.max(),
        ratio_error=(counted - 1.0).abs().max(),
    )


def value_loss(
    values: torch.Tensor,
    old_values: torch.Tensor,
    returns: torch.Tensor,
    mask: torch.Tensor,
    *,
    value_clip_range: float,
) -> ValueLoss:
    """Sum half the larger squared error of the value and of the value clipped to its old one.

    Args:
        values: (batch, completion) of the critic now, with gradient.
        old_values: (batch, completion) of the critic at the rollout.
        returns: (batch, completion).
        mask: (batch, completion).
        value_clip_range: How far the clipped value may be from the old one.

    Source: OpenAI baselines, ppo2; Stiennon et al. 2020, appendix.
    """
    values = torch.where(mask, values, 0.0)
    old_values, returns = torch.where(mask, old_values, 0.0), torch.where(mask, returns, 0.0)
    held = values.clamp(old_values - value_clip_range, old_values + value_clip_range)
    squared, held_squared = (values - returns) ** 2, (held - returns) ** 2
    return ValueLoss(
        loss=0.5 * torch.maximum(squared, held_squared).sum(),
        clipped=(held_squared > squared).sum(),
    )
