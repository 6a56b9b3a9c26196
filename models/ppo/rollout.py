"""A rollout's parts: sampling, the forward passes of the networks, and what to monitor.

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
from models.language.generation import Completion
from models.language.scoring import ScoreMoments
from models.language.sequences import (
    Sequences,
    TokenDistribution,
    map_chunks,
    sequence_scores,
    token_logprobs,
    token_values,
)
from models.ppo.advantages import explained_variance, kl_k3, masked_mean, sum_in_groups
from models.ppo.config import PPOConfig
from models.ppo.networks import Networks, forward_precision
from models.ppo.side_by_side import SideBySide
from models.rollouts.engine import RolloutEngine
from models.statistics.diversity import distinct_n


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Completions of a batch of prompts.

    Attributes:
        completions: The same completions, with the sampler's own logprobs.
        groups: (batch,), the number of each row's prompt in this iteration.
        exact: Whether the logprobs are the actor's, up to rounding.
        started: When sampling began, on the clock `time.perf_counter`.
    """

    sequences: Sequences
    completions: list[Completion]
    groups: torch.Tensor
    exact: bool
    started: float
    seconds: float

    @property
    def finished(self) -> torch.Tensor:
        """Whether the actor ended the completion itself, (batch,) bool."""
        ended = [completion.finished for completion in self.completions]
        return torch.tensor(ended, device=self.sequences.input_ids.device)

    @property
    def logprobs(self) -> torch.Tensor:
        """The sampler's own, (batch, completion); 0 behind each row's end."""
        rows = [torch.tensor(completion.logprobs) for completion in self.completions]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded.to(self.sequences.input_ids.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutputs:
    """Outputs of the networks on the sampled rows, none with a gradient.

    Attributes:
        old_logprobs: (batch, completion) of the actor.
        entropy: (batch, completion) of the actor, nats.
        reference_logprobs: (batch, completion).
        old_values: (batch, completion) of the critic, if there is one, in units of the normalised
            score.
        scores: (batch,) of the reward model, raw.
    """

    old_logprobs: torch.Tensor
    entropy: torch.Tensor
    reference_logprobs: torch.Tensor
    old_values: torch.Tensor | None
    scores: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One batch of sampled completions and what the update learns from.

    Attributes:
        old_logprobs: (batch, completion) of the actor that sampled.
        old_values: (batch, completion) of the critic, if there is one, in units of the normalised
            score.
        learned: (batch,), rows that the policy learns from; the critic does from all.
        advantages: (batch, completion).
        returns: (batch, completion), for the critic.
        metrics: Monitors, `objective/*`, `policy/*`, `value/*` and `time/*`.
        importance: (batch, completion), weights of the policy loss, unless the sampler is exact.
    """

    sequences: Sequences
    old_logprobs: torch.Tensor
    old_values: torch.Tensor | None
    learned: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor | None
    metrics: dict[str, float]
    importance: torch.Tensor | None = None


def sample(
    actor: Any,
    prompts: list[list[int]],
    *,
    engine: RolloutEngine,
    version: int,
    sampling: SamplingConfig,
    eos_token_id: int,
    generator: torch.Generator,
    config: PPOConfig,
) -> Samples:
    """Sample one completion for each prompt and lay the rows out as the update will cut them.

    Args:
        prompts: Equal ones side by side, `config.samples_per_prompt` of each.
        version: Of the actor's weights, which the engine gets first.
    """
    started = time.perf_counter()
    engine.update(actor, version)
    with forward_precision(config, actor.device):
        completions = engine.sample(
            prompts, sampling=sampling, eos_token_id=eos_token_id, generator=generator
        )
    seconds = time.perf_counter() - started
    order = _shortest_first(prompts, completions, config.rollouts_per_minibatch)
    completions = [completions[row] for row in order]
    sequences = Sequences.from_lists(
        [prompts[row] for row in order],
        [completion.token_ids for completion in completions],
        device=actor.device,
    )
    return Samples(
        sequences=sequences,
        completions=completions,
        groups=torch.tensor(order, device=actor.device) // config.samples_per_prompt,
        exact=engine.exact,
        started=started,
        seconds=seconds,
    )


def forward_networks(
    networks: Networks,
    sequences: Sequences,
    *,
    distribution: TokenDistribution,
    moments: ScoreMoments,
    config: PPOConfig,
    side_by_side: SideBySide,
) -> NetworkOutputs:
    """Run the rows through all networks.

    What the update compares itself with is cut as the update will cut it, and computed with as many
    threads; frozen networks get as many rows at once as the memory limit allows.
    """

    def forward(
        function: Callable[[Sequences], torch.Tensor], group: int | None = None
    ) -> torch.Tensor:
        with forward_precision(config, sequences.input_ids.device):
            return map_chunks(
                function, sequences, config.tokens_per_microbatch, group=group, what="judging"
            )

    group = config.rollouts_per_minibatch

    def forward_policies() -> tuple[torch.Tensor, torch.Tensor]:
        actor = forward(lambda rows: _logprobs_entropy(networks.actor, rows, distribution), group)
        return actor, forward(
            lambda rows: (
                token_logprobs(networks.reference, rows, distribution=distribution).logprobs
            )
        )

    def forward_score_heads() -> tuple[torch.Tensor | None, torch.Tensor]:
        return (
            None
            if networks.critic is None
            else forward(lambda rows: critic_values(networks.critic, rows, moments), group),
            forward(lambda rows: sequence_scores(networks.reward_model, rows)),
        )

    (actor, reference_logprobs), (values, scores) = side_by_side.run(
        forward_policies, forward_score_heads
    )
    return NetworkOutputs(
        old_logprobs=actor[..., 0],
        entropy=actor[..., 1],
        reference_logprobs=reference_logprobs,
        old_values=values,
        scores=scores,
    )


def critic_values(critic: Any, sequences: Sequences, moments: ScoreMoments) -> torch.Tensor:
    """Values in units of the normalised score, (batch, completion).

    The critic starts as a copy of the reward model, so it starts on the score's own scale.
    """
    values = (token_values(critic, sequences) - moments.mean) / moments.std
    return torch.where(sequences.completion_mask, values, 0.0)


def normalise_scores(
    scores: torch.Tensor, moments: ScoreMoments, score_clip: float | None
) -> torch.Tensor:
    """Shift and scale raw scores, (batch,), and clip them to ±`score_clip` if there is one."""
    normalised = (scores - moments.mean) / moments.std
    return normalised if score_clip is None else normalised.clamp(-score_clip, score_clip)


def rollout_metrics(
    samples: Samples,
    outputs: NetworkOutputs,
    scores: torch.Tensor,
    rewards: torch.Tensor,
    returns: torch.Tensor | None,
    kl_coef: float,
) -> dict[str, float]:
    """Reduce a rollout to its monitors; KL is summed over a completion, in nats.

    Args:
        scores: (batch,), normalised.
        rewards: (batch, completion).
        returns: (batch, completion), where there is a critic.
    """
    sequences, mask = samples.sequences, samples.sequences.completion_mask
    logprobs, reference_logprobs = outputs.old_logprobs, outputs.reference_logprobs
    k1 = torch.where(mask, logprobs - reference_logprobs, 0.0).sum(1)
    k3 = torch.where(mask, kl_k3(logprobs, reference_logprobs), 0.0).sum(1)
    tokens, lengths = int(sequences.completion_lengths.sum()), sequences.completion_lengths.float()
    metrics = {
        "objective/score": outputs.scores.mean().item(),
        "objective/score_std": outputs.scores.std(unbiased=False).item(),
        "objective/score_normalised": scores.mean().item(),
        "objective/reward": rewards.sum(1).mean().item(),
        "objective/kl_coef": kl_coef,
        "objective/kl_to_reference": k1.mean().item(),
        "objective/kl_standard_error": k1.std(unbiased=False).item() / len(k1) ** 0.5,
        "objective/kl_to_reference_k3": k3.mean().item(),
        "objective/entropy": masked_mean(outputs.entropy, mask).item(),
        "objective/completion_tokens": lengths.mean().item(),
        "objective/completion_tokens_std": lengths.std(unbiased=False).item(),
        "objective/eos_rate": samples.finished.float().mean().item(),
        "objective/distinct_2": distinct_n([c.token_ids for c in samples.completions], 2),
        "objective/sampler_error": (samples.logprobs - logprobs)[mask].abs().max().item(),
        **_value_metrics(outputs.old_values, returns, mask),
        "time/sampling_seconds": samples.seconds,
        "time/sampled_tokens_per_second": tokens / samples.seconds,
    }
    if returns is None:
        spread = sum_in_groups(rewards, mask, samples.groups).std(dim=1)
        metrics["objective/group_reward_std"] = spread.mean().item()
    seconds = time.perf_counter() - samples.started
    return metrics | {
        "time/judging_seconds": seconds - samples.seconds,
        "time/rollout_seconds": seconds,
    }


def _value_metrics(
    values: torch.Tensor | None, returns: torch.Tensor | None, mask: torch.Tensor
) -> dict[str, float]:
    if values is None or returns is None:
        return {}
    return {
        "value/returns": masked_mean(returns, mask).item(),
        "value/mean": masked_mean(values, mask).item(),
        "value/explained_variance": explained_variance(values, returns, mask).item(),
    }


def _shortest_first(
    prompts: list[list[int]], completions: list[Completion], rollouts_per_minibatch: int
) -> list[int]:
    """Order rows by length within each minibatch of the first pass."""
    lengths = [len(p) + len(c.token_ids) for p, c in zip(prompts, completions, strict=True)]
    return sorted(
        range(len(lengths)), key=lambda row: (row // rollouts_per_minibatch, lengths[row])
    )


def _logprobs_entropy(
    model: Any, sequences: Sequences, distribution: TokenDistribution
) -> torch.Tensor:
    """Logprobs and entropy from one forward pass, (batch, completion, 2)."""
    found = token_logprobs(model, sequences, distribution=distribution, entropy="watched")
    assert found.entropy is not None
    return torch.stack([found.logprobs, found.entropy], dim=-1)
