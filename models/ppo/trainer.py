"""The PPO trainer: `step()` reads like the paper.

Differs from the common implementations: actor and critic are separate networks with separate
optimisers; losses are normalised by the counted tokens of the whole optimiser step; once a
minibatch finds the actor too far from the rollout's policy, its step of the actor is not taken
and the inner epochs end.

Every random choice of an iteration derives from the root seed and the iteration's number, and
the learning rates are functions of that number. Nothing random has a state, so weights,
optimisers and the number of finished iterations are all that a resume needs.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from models.configs.sampling import SamplingConfig
from models.errors import DivergedError
from models.ppo.config import PPOConfig
from models.ppo.losses import PolicyLoss, ValueLoss, policy_loss, value_loss
from models.ppo.rollout import Networks, Rollout, collect_rollout, critic_values
from models.randomness import derive_seed
from models.scoring import ScoreMoments
from models.sequences import in_chunks, token_logprobs

__all__ = ["PPOTrainer"]

FINAL_LEARNING_RATE = 0.1
"""Share of its peak at which the actor's learning rate ends."""


class PPOTrainer:
    """Owns the four networks, the two optimisers and the count of finished iterations."""

    def __init__(
        self,
        *,
        networks: Networks,
        prompts: list[list[int]],
        config: PPOConfig,
        sampling: SamplingConfig,
        moments: ScoreMoments,
        eos_token_id: int,
        pad_token_id: int,
        seed: int,
    ) -> None:
        """Freeze reference and reward model and set up the optimisers.

        Args:
            networks: Actor and reference from the SFT model, critic from the reward model.
            prompts: Token ids of the training prompts.
            config: PPO's parameters.
            sampling: Temperature and longest completion; the temperature divides the logits of
                old, new and reference logprobs alike.
            moments: Of the reward model's scores on SFT completions.
            eos_token_id: Ends a completion.
            pad_token_id: Fills rows; never counted.
            seed: The root seed.
        """
        self.networks = networks
        self.prompts = prompts
        self.config = config
        self.sampling = sampling
        self.moments = moments
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id
        self.seed = seed
        self.finished_iterations = 0
        for frozen in (networks.reference, networks.reward_model):
            frozen.requires_grad_(False)
        for network in (networks.actor, networks.critic, networks.reference, networks.reward_model):
            network.eval()  # dropout off: logprobs now and then must agree
        self.actor_optimizer = _adamw(networks.actor, config.actor_learning_rate)
        self.critic_optimizer = _adamw(networks.critic, config.critic_learning_rate)

    def step(self) -> dict[str, float]:
        """Run one iteration: collect a rollout, learn from it, report what happened."""
        started = time.perf_counter()
        iteration = self.finished_iterations
        rollout = collect_rollout(
            self.networks,
            self._prompts_of(iteration),
            config=self.config,
            sampling=self.sampling,
            moments=self.moments,
            eos_token_id=self.eos_token_id,
            pad_token_id=self.pad_token_id,
            generator=self._generator(f"rollout.{iteration}"),
        )
        collected = time.perf_counter()
        learned = self._learn(rollout, iteration)
        self.finished_iterations += 1
        seconds = time.perf_counter() - started
        tokens = int(rollout.sequences.lengths.sum())
        return {
            **rollout.metrics,
            **learned,
            "time/rollout_seconds": collected - started,
            "time/update_seconds": time.perf_counter() - collected,
            "time/tokens_per_second": tokens / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs."""
        return {
            "actor": self.networks.actor.state_dict(),
            "critic": self.networks.critic.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "finished_iterations": self.finished_iterations,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.networks.actor.load_state_dict(state["actor"])
        self.networks.critic.load_state_dict(state["critic"])
        self.actor_optimizer.load_state_dict(state["actor_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.finished_iterations = state["finished_iterations"]

    def _learn(self, rollout: Rollout, iteration: int) -> dict[str, float]:
        """Take the optimiser steps of one rollout."""
        actor_learns = iteration >= self.config.critic_warmup_iterations
        learning_rate = self._actor_learning_rate(iteration)
        for group in self.actor_optimizer.param_groups:
            group["lr"] = learning_rate
        steps: list[dict[str, float]] = []
        stopped = False
        for rows in self._minibatches(iteration):
            taken = self._optimise(rollout, rows, actor_learns=actor_learns)
            steps.append(taken)
            if taken.get("policy/approx_kl", 0.0) > self.config.max_approx_kl:
                stopped = True
                break
        metrics = _mean_of(steps)
        if actor_learns:
            metrics["policy/first_ratio_error"] = steps[0]["policy/ratio_error"]
            metrics["policy/first_approx_kl"] = steps[0]["policy/approx_kl"]
            metrics["policy/ratio_max"] = max(one["policy/ratio_max"] for one in steps)
            metrics["policy/learning_rate"] = learning_rate
            metrics["policy/early_stop"] = float(stopped)
            del metrics["policy/ratio_error"]
        metrics["policy/optimizer_steps"] = float((len(steps) - stopped) * actor_learns)
        return metrics

    def _optimise(
        self, rollout: Rollout, rows: torch.Tensor, *, actor_learns: bool
    ) -> dict[str, float]:
        """Take one optimiser step of the critic and, if it learns, of the actor."""
        counted = int(rollout.sequences.completion_lengths[rows].sum())
        metrics = self._critic_step(rollout, rows, counted)
        if actor_learns:
            metrics |= self._actor_step(rollout, rows, counted)
        return metrics

    def _actor_step(self, rollout: Rollout, rows: torch.Tensor, counted: int) -> dict[str, float]:
        losses: list[PolicyLoss] = []
        for part in self._microbatches(rollout, rows):
            sequences = rollout.sequences.select(part)
            said = token_logprobs(
                self.networks.actor,
                sequences,
                temperature=self.sampling.temperature,
                entropy_gradient=self.config.entropy_coef > 0,
            )
            mask = sequences.completion_mask
            width = mask.shape[1]
            loss = policy_loss(
                said.logprobs,
                rollout.old_logprobs[part, :width],
                rollout.advantages[part, :width],
                mask,
                clip_range=self.config.clip_range,
            )
            objective = loss.loss - self.config.entropy_coef * said.entropy.sum()
            self._check_finite(objective, "policy loss")
            (objective / counted).backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
        approx_kl = _total([loss.approx_kl for loss in losses]) / counted
        metrics = {
            "policy/loss": _total([loss.loss for loss in losses]) / counted,
            "policy/approx_kl": approx_kl,
            "policy/clip_fraction": _total([loss.clipped for loss in losses]) / counted,
            "policy/ratio_mean": _total([loss.ratio for loss in losses]) / counted,
            "policy/ratio_max": max(loss.ratio_max.item() for loss in losses),
            "policy/ratio_error": max(loss.ratio_error.item() for loss in losses),
        }
        if approx_kl > self.config.max_approx_kl:
            self.actor_optimizer.zero_grad(set_to_none=True)
            return metrics
        return metrics | {
            "policy/grad_norm": self._apply(self.networks.actor, self.actor_optimizer)
        }

    def _critic_step(self, rollout: Rollout, rows: torch.Tensor, counted: int) -> dict[str, float]:
        losses: list[ValueLoss] = []
        for part in self._microbatches(rollout, rows):
            sequences = rollout.sequences.select(part)
            mask = sequences.completion_mask
            width = mask.shape[1]
            loss = value_loss(
                critic_values(self.networks.critic, sequences, self.moments),
                rollout.old_values[part, :width],
                rollout.returns[part, :width],
                mask,
                value_clip_range=self.config.value_clip_range,
            )
            objective = self.config.value_coef * loss.loss
            self._check_finite(objective, "value loss")
            (objective / counted).backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
        return {
            "value/loss": _total([loss.loss for loss in losses]) / counted,
            "value/clip_fraction": _total([loss.clipped for loss in losses]) / counted,
            "value/grad_norm": self._apply(self.networks.critic, self.critic_optimizer),
        }

    def _apply(self, network: Any, optimizer: torch.optim.Optimizer) -> float:
        """Clip, step, and return the gradient norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.max_grad_norm)
        self._check_finite(norm, "gradient norm")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _microbatches(self, rollout: Rollout, rows: torch.Tensor) -> Iterator[torch.Tensor]:
        """Cut a minibatch's rows, shortest first, so that little is padded; the sum is the same."""
        rows = rows[torch.argsort(rollout.sequences.lengths[rows], stable=True)]
        chosen = rollout.sequences.select(rows)
        for part, _ in in_chunks(chosen, self.config.microbatch_tokens):
            yield rows[part]

    def _minibatches(self, iteration: int) -> Iterator[torch.Tensor]:
        """Row indices of every optimiser step: each epoch but the first shuffles anew.

        The first takes the rows as they lie; the walk through the prompts has shuffled them.
        """
        for epoch in range(self.config.ppo_epochs):
            order = torch.arange(self.config.rollout_size)
            if epoch > 0:
                generator = self._generator(f"minibatch.{iteration}.{epoch}")
                order = torch.randperm(self.config.rollout_size, generator=generator)
            yield from torch.split(order.to(self.networks.actor.device), self.config.minibatch_size)

    def _prompts_of(self, iteration: int) -> list[list[int]]:
        """Walk through the prompts, shuffled anew at each pass."""
        first = iteration * self.config.rollout_size
        chosen: list[list[int]] = []
        while len(chosen) < self.config.rollout_size:
            passed, position = divmod(first + len(chosen), len(self.prompts))
            order = torch.randperm(
                len(self.prompts), generator=self._generator(f"prompts.{passed}")
            ).tolist()
            room = self.config.rollout_size - len(chosen)
            chosen += [self.prompts[index] for index in order[position : position + room]]
        return chosen

    def _actor_learning_rate(self, iteration: int) -> float:
        """Fall linearly from the peak at the first iteration to 10% of it at the last."""
        done = iteration / max(1, self.config.iterations - 1)
        return self.config.actor_learning_rate * (1.0 - (1.0 - FINAL_LEARNING_RATE) * done)

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, f"ppo.{name}"))

    def _check_finite(self, value: torch.Tensor, what: str) -> None:
        if not math.isfinite(value.item()):
            raise DivergedError(
                f"the {what} of PPO is {value.item()} in iteration {self.finished_iterations}; "
                "a finite number was wanted: lower ppo.actor_learning_rate and "
                "ppo.critic_learning_rate or raise ppo.kl_coef; the last checkpoint is kept"
            )


def _adamw(network: Any, learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        network.parameters(), lr=learning_rate, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.0
    )


def _total(sums: list[torch.Tensor]) -> float:
    return float(torch.stack([one.detach().double() for one in sums]).sum())


def _mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Average each metric over the optimiser steps that report it."""
    counts = Counter(name for step in steps for name in step)
    return {name: sum(step.get(name, 0.0) for step in steps) / counts[name] for name in counts}
