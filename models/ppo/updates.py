"""One optimiser step of the actor and one of the critic, in micro-batches.

Losses are sums over counted tokens, divided by the tokens of the whole step: however a minibatch is
cut, the gradient is the same. So the members of a team each take some of its micro-batches; what
decides is summed over them first: that a loss is finite, that the actor has not moved too far, how
long the gradient is.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from models.distributed.gradients import sum_over_team
from models.distributed.parts import clip_gradients
from models.distributed.sharding import is_sharded
from models.distributed.team import current_team
from models.errors import DivergedError
from models.language.scoring import ScoreMoments
from models.language.sequences import TokenDistribution, token_logprobs
from models.ppo.config import PPOConfig
from models.ppo.losses import PolicyLoss, ValueLoss, policy_loss, value_loss
from models.ppo.microbatches import microbatches
from models.ppo.networks import forward_precision
from models.ppo.rollout import Rollout, critic_values
from models.training.memory import MasterAdamW, learned_weights


def adamw(network: Any, learning_rate: float, config: PPOConfig) -> torch.optim.AdamW:
    """Build the optimiser of a network's trainable parameters; it may put masters below them."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    settings: dict[str, Any] = {
        "lr": learning_rate,
        "betas": (0.9, 0.95),
        "eps": 1e-5,
        "weight_decay": 0.0,
        "fused": True,
    }
    if is_sharded(network):  # some of its weights are whole, some are parts: one after the other
        settings |= {"fused": False, "foreach": False}
    if config.precision == "bfloat16" and config.lora is None:
        return MasterAdamW(learned, network=network, **settings)
    return torch.optim.AdamW(learned, **settings)


def actor_step(
    actor: Any,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    rows: torch.Tensor,
    *,
    learning_rate: float,
    distribution: TokenDistribution,
    config: PPOConfig,
    ptx: Callable[[], float] | None = None,
) -> dict[str, float]:
    """Move the actor by one minibatch, unless it is already too far from the sampling policy.

    Args:
        rows: (minibatch,) indices into the rollout.
        ptx: Adds the gradient of the pretraining loss and returns that loss.

    Returns:
        `policy/*` monitors; `policy/grad_norm` exactly if the step was taken.

    Raises:
        DivergedError: The loss or the gradient is not finite.
    """
    counted = int(rollout.sequences.completion_lengths[rows].sum())
    losses: list[PolicyLoss] = []
    objectives: list[torch.Tensor] = []
    for part, weight in _microbatches(rollout, rows, config.tokens_per_microbatch):
        sequences = rollout.sequences.select(part)
        with forward_precision(config, actor.device):
            outputs = token_logprobs(
                actor,
                sequences,
                distribution=distribution,
                entropy="learned" if config.entropy_coef > 0 else "none",
            )
        mask = sequences.completion_mask
        width = mask.shape[1]
        loss = policy_loss(
            outputs.logprobs,
            rollout.old_logprobs[part, :width],
            rollout.advantages[part, :width],
            mask,
            clip_range=config.clip_range,
            importance=None if rollout.importance is None else rollout.importance[part, :width],
        )
        objective = loss.loss
        if outputs.entropy is not None:
            entropy = torch.where(rollout.learned[part, None], outputs.entropy, 0.0).sum()
            objective = objective - config.entropy_coef * entropy
        (weight * objective / counted).backward()  # type: ignore[no-untyped-call]
        if weight:
            losses.append(loss)
            objectives.append(objective)
    _check_finite(_totals([objectives])[0], "policy loss")
    metrics = {"policy/learning_rate": learning_rate, **_policy_metrics(losses, counted)}
    if metrics["policy/approx_kl"] > config.max_approx_kl:
        optimizer.zero_grad(set_to_none=True)
        return metrics
    if ptx is not None:
        with forward_precision(config, actor.device):
            metrics["policy/ptx_loss"] = ptx()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    metrics["policy/grad_norm"] = _apply(actor, optimizer, config)
    return metrics


def critic_step(
    critic: Any,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    rows: torch.Tensor,
    *,
    moments: ScoreMoments,
    config: PPOConfig,
) -> dict[str, float]:
    """Move the critic by one minibatch; arguments and errors as in `actor_step`."""
    assert rollout.old_values is not None
    assert rollout.returns is not None
    counted = int(rollout.sequences.completion_lengths[rows].sum())
    losses: list[ValueLoss] = []
    for part, weight in _microbatches(rollout, rows, config.tokens_per_microbatch):
        sequences = rollout.sequences.select(part)
        with forward_precision(config, critic.device):
            values = critic_values(critic, sequences, moments)
        mask = sequences.completion_mask
        width = mask.shape[1]
        loss = value_loss(
            values,
            rollout.old_values[part, :width],
            rollout.returns[part, :width],
            mask,
            value_clip_range=config.value_clip_range,
        )
        objective = weight * config.value_coef * loss.loss
        (objective / counted).backward()  # type: ignore[no-untyped-call]
        if weight:
            losses.append(loss)
    total, clipped = _totals([[one.loss for one in losses], [one.clipped for one in losses]])
    _check_finite(total, "value loss")
    return {
        "value/loss": total / counted,
        "value/clip_fraction": clipped / counted,
        "value/grad_norm": _apply(critic, optimizer, config),
    }


def _policy_metrics(losses: list[PolicyLoss], counted: int) -> dict[str, float]:
    """Join the micro-batches of one step."""
    loss, approx_kl, clipped, ratio = _totals(
        [
            [one.loss for one in losses],
            [one.approx_kl for one in losses],
            [one.clipped for one in losses],
            [one.ratio for one in losses],
        ]
    )
    greatest = [
        max((one.ratio_max.item() for one in losses), default=0.0),
        max((one.ratio_error.item() for one in losses), default=0.0),
    ]
    ratio_max, ratio_error = (
        current_team().greatest(torch.tensor(greatest, dtype=torch.float64)).tolist()
    )
    return {
        "policy/loss": loss / counted,
        "policy/approx_kl": approx_kl / counted,
        "policy/clip_fraction": clipped / counted,
        "policy/ratio_mean": ratio / counted,
        "policy/ratio_max": ratio_max,
        "policy/ratio_error": ratio_error,
    }


def _apply(network: Any, optimizer: torch.optim.Optimizer, config: PPOConfig) -> float:
    """Clip, step, and return the gradient norm before clipping."""
    if current_team().size > 1 and not is_sharded(network):  # that sums its gradients itself
        sum_over_team(_gradients(network))
    norm = clip_gradients(learned_weights(network), config.max_grad_norm)
    _check_finite(norm, "gradient norm")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _gradients(network: Any) -> list[torch.Tensor]:
    """One for each weight that learns; zeros where this member had no work."""
    gradients = []
    for weight in learned_weights(network):
        if weight.requires_grad:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            gradients.append(weight.grad)
    return gradients


def _microbatches(
    rollout: Rollout, rows: torch.Tensor, max_tokens: int
) -> Iterator[tuple[torch.Tensor, float]]:
    """Cut a minibatch's rows, shortest first, so that rows of equal length lie together.

    Gives this member's `microbatches`, cut as in the forward pass that made `old_logprobs`.
    """
    rows = rows[torch.argsort(rollout.sequences.lengths[rows], stable=True)]
    chosen = rollout.sequences.select(rows)
    for part, _, weight in microbatches(chosen, max_tokens):
        yield rows[part], weight


def _check_finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise DivergedError(
            f"the {what} of PPO is {value}; a finite number was wanted: lower "
            "ppo.actor_learning_rate and ppo.critic_learning_rate or raise ppo.kl_coef"
        )


def _totals(sums: list[list[torch.Tensor]]) -> list[float]:
    """Add up each list of numbers, in float64 and over the members of the team."""
    mine = [
        float(torch.stack([one.detach().double() for one in some]).sum()) if some else 0.0
        for some in sums
    ]
    totals: list[float] = current_team().total(torch.tensor(mine, dtype=torch.float64)).tolist()
    return totals
