"""The weight of the KL penalty: fixed, or adapted towards a target."""

from models.ppo.config import PPOConfig

MAX_ERROR = 0.2


def next_kl_coef(kl_coef: float, kl: float, config: PPOConfig) -> float:
    """Adapt the coefficient after an iteration; without a target it stays the same.

    coef' = coef * (1 + clip(kl / target - 1, -0.2, 0.2) * rollouts / horizon)

    Args:
        kl_coef: Of this iteration.
        kl: Measured to the reference, nats per completion.
        config: Target, horizon and rollouts per iteration.

    Source: Ziegler et al. 2019 (arXiv 1909.08593), section 2.2.
    """
    if config.kl_target is None:
        return kl_coef
    error = min(max(kl / config.kl_target - 1.0, -MAX_ERROR), MAX_ERROR)
    return kl_coef * (1.0 + error * config.rollouts_per_iteration / config.kl_horizon)
