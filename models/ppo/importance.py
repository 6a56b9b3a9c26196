"""Weights that correct the policy loss where another distribution than the actor's was sampled.

A server computes with other kernels, and often in other precision, than the actor. Advantages
belong to the actor, so each token's loss is weighted by how much likelier the actor makes it than
the sampler did. Old logprobs are the actor's own in any case, so PPO's ratio starts at exactly 1.
"""

import torch

from models.ppo.config import PPOConfig
from models.ppo.losses import LOG_RATIO_BOUND
from models.ppo.rollout import Samples


def importance_of(
    samples: Samples, old_logprobs: torch.Tensor, config: PPOConfig
) -> tuple[torch.Tensor | None, dict[str, float]]:
    """Weights of the policy loss, (batch, completion), and what to monitor of them.

    Both are empty where the sampler is exact: its ratio is 1 up to rounding.
    """
    if samples.exact:
        return None, {}
    mask, cap = samples.sequences.completion_mask, config.importance_cap
    weights = importance_weights(old_logprobs, samples.logprobs, mask, cap=cap)
    counted = weights[mask]
    return weights, {
        "policy/importance_mean": counted.mean().item(),
        "policy/importance_min": counted.min().item(),
        "policy/importance_max": counted.max().item(),
        "policy/importance_capped": (counted >= cap).float().mean().item(),
    }


def importance_weights(
    old_logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, mask: torch.Tensor, *, cap: float
) -> torch.Tensor:
    """Truncate pi_old / pi_sampler of each token at a cap, (batch, completion); 0 where masked.

    Tokens that the sampler gives too often count less and rare ones more, but none more than `cap`:
    a little bias for a bounded variance.

    Args:
        old_logprobs: (batch, completion) of the actor at the rollout.
        sampler_logprobs: (batch, completion) of the distribution that was sampled from.

    Source: Ionides 2008, Truncated importance sampling; per token as in verl and TRL.
    """
    log_ratio = torch.where(mask, old_logprobs - sampler_logprobs, 0.0)
    ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    return torch.where(mask, ratio.clamp(max=cap), 0.0)
