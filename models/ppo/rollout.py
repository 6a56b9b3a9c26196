"""One rollout: sampled completions and everything the four networks say about them.

`old_logprobs` are computed by the same full forward that the update uses, not taken from the
cached decoding, and in the very micro-batches that the first minibatch is cut into: matrices of
equal shapes are rounded alike, so its ratio is exactly 1. For this the rows of a rollout lie
minibatch by minibatch, shortest first within each.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from models.language.config import SamplingConfig
from models.language.distribution import TokenDistribution
from models.language.generation import Completion, sample_completions
from models.language.scoring import ScoreMoments
from models.language.sequences import (
    Sequences,
    map_chunks,
    sequence_scores,
    token_logprobs,
    token_values,
)
from models.ppo.advantages import (
    estimate_advantages,
    explained_variance,
    kl_k3,
    masked_mean,
    shape_rewards,
    whiten,
)
from models.ppo.config import PPOConfig
from models.ppo.networks import Networks
from models.ppo.precision import forward_precision
from models.ppo.side_by_side import SideBySide
from models.statistics.diversity import distinct_n


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Sampled completions, judged.

    Attributes:
        sequences: The rows.
        old_logprobs: (batch, completion) of the actor that sampled.
        old_values: (batch, completion) of the critic, in units of the normalised score.
        advantages: (batch, completion), whitened over the rollout.
        returns: (batch, completion).
        metrics: What to watch, `objective/*`, `value/*` and `time/*`.
    """

    sequences: Sequences
    old_logprobs: torch.Tensor
    old_values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    metrics: dict[str, float]


def critic_values(critic: Any, sequences: Sequences, moments: ScoreMoments) -> torch.Tensor:
    """Values in units of the normalised score, (batch, completion).

    The critic starts as a copy of the reward model, so it starts on the score's own scale.
    """
    values = (token_values(critic, sequences) - moments.mean) / moments.std
    return torch.where(sequences.completion_mask, values, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What the four networks say about the sampled rows, none with a gradient.

    Attributes:
        old_logprobs: (batch, completion) of the actor.
        entropy: (batch, completion) of the actor, nats.
        reference_logprobs: (batch, completion).
        old_values: (batch, completion) of the critic, in units of the normalised score.
        scores: (batch,) of the reward model, raw.
    """

    old_logprobs: torch.Tensor
    entropy: torch.Tensor
    reference_logprobs: torch.Tensor
    old_values: torch.Tensor
    scores: torch.Tensor


def ask_networks(
    networks: Networks,
    sequences: Sequences,
    *,
    distribution: TokenDistribution,
    moments: ScoreMoments,
    config: PPOConfig,
    side_by_side: SideBySide,
) -> Opinions:
    """Forward the rows through all four networks.

    What the update compares itself with is cut as the update will cut it, and computed with as many
    threads; frozen networks get as much at once as memory is meant to hold.
    """

    def ask(
        question: Callable[[Sequences], torch.Tensor], group: int | None = None
    ) -> torch.Tensor:
        with forward_precision(config, sequences.input_ids.device):
            return map_chunks(question, sequences, config.tokens_per_microbatch, group=group)

    group = config.rollouts_per_minibatch

    def ask_policies() -> tuple[torch.Tensor, torch.Tensor]:
        said = ask(lambda rows: _stacked_logprobs(networks.actor, rows, distribution), group)
        with networks.as_reference() as reference:
            return said, ask(
                lambda rows: token_logprobs(reference, rows, distribution=distribution).logprobs
            )

    def ask_judges() -> tuple[torch.Tensor, torch.Tensor]:
        return (
            ask(lambda rows: critic_values(networks.critic, rows, moments), group),
            ask(lambda rows: sequence_scores(networks.reward_model, rows)),
        )

    (said, reference_logprobs), (values, scores) = side_by_side.run(ask_policies, ask_judges)
    return Opinions(
        old_logprobs=said[..., 0],
        entropy=said[..., 1],
        reference_logprobs=reference_logprobs,
        old_values=values,
        scores=scores,
    )


@torch.no_grad()
def collect_rollout(
    networks: Networks,
    prompts: list[list[int]],
    *,
    config: PPOConfig,
    sampling: SamplingConfig,
    moments: ScoreMoments,
    kl_coef: float,
    eos_token_id: int,
    generator: torch.Generator,
    side_by_side: SideBySide,
) -> Rollout:
    """Sample, score, compare with the reference, shape rewards, estimate advantages."""
    started = time.perf_counter()
    with forward_precision(config, networks.actor.device):
        completions = sample_completions(
            networks.actor,
            prompts,
            sampling=sampling,
            eos_token_id=eos_token_id,
            generator=generator,
        )
    sampled = time.perf_counter()
    order = _shortest_first(prompts, completions, config.rollouts_per_minibatch)
    completions = [completions[row] for row in order]
    sequences = Sequences.from_lists(
        [prompts[row] for row in order],
        [completion.token_ids for completion in completions],
        device=networks.actor.device,
    )
    opinions = ask_networks(
        networks,
        sequences,
        distribution=TokenDistribution.of(sampling, eos_token_id),
        moments=moments,
        config=config,
        side_by_side=side_by_side,
    )
    finished = torch.tensor([c.finished for c in completions], device=opinions.scores.device)
    rollout = _value_tokens(
        sequences, opinions, finished, config=config, moments=moments, kl_coef=kl_coef
    )
    tokens = int(sequences.completion_lengths.sum())
    rollout.metrics.update(
        {
            "objective/distinct_2": distinct_n([c.token_ids for c in completions], 2),
            "objective/sampler_error": _sampler_error(completions, opinions.old_logprobs),
            "time/sampling_seconds": sampled - started,
            "time/sampled_tokens_per_second": tokens / (sampled - started),
            "time/judging_seconds": time.perf_counter() - sampled,
        }
    )
    return rollout


def _value_tokens(
    sequences: Sequences,
    opinions: Opinions,
    finished: torch.Tensor,
    *,
    config: PPOConfig,
    moments: ScoreMoments,
    kl_coef: float,
) -> Rollout:
    """Turn opinions into rewards, advantages and returns."""
    normalised = (opinions.scores - moments.mean) / moments.std
    if config.score_clip is not None:
        normalised = normalised.clamp(-config.score_clip, config.score_clip)
    mask = sequences.completion_mask
    rewards = shape_rewards(
        normalised - config.missing_eos_penalty * (~finished).float(),
        opinions.old_logprobs,
        opinions.reference_logprobs,
        mask,
        kl_coef=kl_coef,
    )
    estimate = estimate_advantages(
        rewards, opinions.old_values, mask, gamma=config.gamma, gae_lambda=config.gae_lambda
    )
    advantages = estimate.advantages
    return Rollout(
        sequences=sequences,
        old_logprobs=opinions.old_logprobs,
        old_values=opinions.old_values,
        advantages=whiten(advantages, mask) if config.whiten_advantages else advantages,
        returns=estimate.returns,
        metrics={
            **_monitor(sequences, opinions, rewards, estimate.returns),
            "objective/score_normalised": normalised.mean().item(),
            "objective/eos_rate": finished.float().mean().item(),
            "objective/kl_coef": kl_coef,
        },
    )


def _shortest_first(
    prompts: list[list[int]], completions: list[Completion], rollouts_per_minibatch: int
) -> list[int]:
    """Order rows by length within each minibatch of the first pass."""
    lengths = [len(p) + len(c.token_ids) for p, c in zip(prompts, completions, strict=True)]
    return sorted(
        range(len(lengths)), key=lambda row: (row // rollouts_per_minibatch, lengths[row])
    )


def _stacked_logprobs(
    model: Any, sequences: Sequences, distribution: TokenDistribution
) -> torch.Tensor:
    said = token_logprobs(model, sequences, distribution=distribution, entropy="watched")
    assert said.entropy is not None
    return torch.stack([said.logprobs, said.entropy], dim=-1)


def _sampler_error(completions: list[Completion], logprobs: torch.Tensor) -> float:
    """The largest distance between a logprob as sampled and as recomputed; rounding only."""
    return max(
        float((torch.tensor(c.logprobs) - row[: len(c.logprobs)]).abs().max())
        for c, row in zip(completions, logprobs.cpu(), strict=True)
    )


def _monitor(
    sequences: Sequences, opinions: Opinions, rewards: torch.Tensor, returns: torch.Tensor
) -> dict[str, float]:
    """Reduce a rollout to what one watches; KL is summed over a completion, in nats."""
    mask = sequences.completion_mask
    k1 = torch.where(mask, opinions.old_logprobs - opinions.reference_logprobs, 0.0).sum(1)
    k3 = torch.where(mask, kl_k3(opinions.old_logprobs, opinions.reference_logprobs), 0.0).sum(1)
    return {
        "objective/score": opinions.scores.mean().item(),
        "objective/score_std": opinions.scores.std(unbiased=False).item(),
        "objective/reward": rewards.sum(1).mean().item(),
        "objective/kl_to_reference": k1.mean().item(),
        "objective/kl_standard_error": k1.std(unbiased=False).item() / len(k1) ** 0.5,
        "objective/kl_to_reference_k3": k3.mean().item(),
        "objective/entropy": masked_mean(opinions.entropy, mask).item(),
        "objective/completion_tokens": sequences.completion_lengths.float().mean().item(),
        "value/returns": masked_mean(returns, mask).item(),
        "value/mean": masked_mean(opinions.old_values, mask).item(),
        "value/explained_variance": explained_variance(opinions.old_values, returns, mask).item(),
    }
