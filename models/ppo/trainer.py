"""The PPO trainer: `step()` reads like the paper.

Differs from the common implementations: actor and critic are separate networks with separate
optimisers; losses are normalised by the counted tokens of the whole optimiser step; once a
minibatch finds the actor too far from the rollout's policy, its step of the actor is not taken
and the inner epochs end.

Every random choice of an iteration derives from the root seed and the iteration's number, and
the learning rates are functions of that number. Nothing random has a state, so weights,
optimisers, a few numbers and the iteration under way are all that a resume needs. A signal that
arrives while weights move waits until they rest.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from models.errors import DivergedError, ParameterError
from models.interruption import Interruption
from models.language.config import SamplingConfig
from models.language.distribution import TokenDistribution
from models.language.scoring import ScoreMoments
from models.ppo.config import PPOConfig
from models.ppo.ema import MovingAverage
from models.ppo.iteration import Iteration
from models.ppo.kl_control import next_kl_coef
from models.ppo.networks import Networks, learned_state, load_learned_state, prepare_networks
from models.ppo.ptx import ptx_backward
from models.ppo.rollout import Rollout, collect_rollout
from models.ppo.side_by_side import SideBySide
from models.ppo.updates import actor_step, adamw, critic_step
from models.randomness import derive_seed

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
        seed: int,
        corpus: torch.Tensor | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Freeze reference and reward model and set up the optimisers.

        Args:
            networks: Actor and reference from the SFT model, critic from the reward model.
            prompts: Token ids of the training prompts.
            config: PPO's parameters.
            sampling: Of the rollouts; what shapes it shapes old, new and reference logprobs alike.
            moments: Of the reward model's scores on SFT completions.
            eos_token_id: Ends a completion.
            seed: The root seed.
            corpus: (blocks, block) token ids for the pretraining mix, if there is one.
            interruption: Holds signals back while weights move.

        Raises:
            ParameterError: A pretraining mix is wanted and there is no corpus.
        """
        if config.ptx_coef and corpus is None:
            raise ParameterError(
                f"ppo.ptx_coef is {config.ptx_coef} but the data has no corpus to mix in; "
                "set it to 0 or give corpus rows"
            )
        self.networks = networks
        self.prompts = prompts
        self.config = config
        self.sampling = sampling
        self.moments = moments
        self.eos_token_id = eos_token_id
        self.seed = seed
        self.kl_coef = config.kl_coef
        self.finished_iterations = 0
        self._corpus = corpus
        self._interruption = interruption or Interruption()
        self._open: Iteration | None = None
        self._side_by_side = SideBySide(networks.actor.device)
        prepare_networks(networks, config)
        self.actor_optimizer = adamw(networks.actor, config.actor_learning_rate)
        self.critic_optimizer = adamw(networks.critic, config.critic_learning_rate)
        self.ema = MovingAverage(networks.actor, config.ema_decay) if config.ema_decay else None

    def step(self) -> dict[str, float]:
        """Run one iteration: collect a rollout, learn from it, report what happened."""
        metrics = self.learn()
        self.close(metrics)
        return metrics

    def learn(self) -> dict[str, float]:
        """Do whatever is left of the iteration under way and report it; `close` ends it."""
        if self._open is None:
            started = time.perf_counter()
            rollout = self._collect()
            self._open = Iteration(rollout=rollout, rollout_seconds=time.perf_counter() - started)
        self._update(self._open)
        return self._report(self._open)

    def close(self, metrics: dict[str, float]) -> None:
        """Count the iteration as finished."""
        self.kl_coef = next_kl_coef(self.kl_coef, metrics["objective/kl_to_reference"], self.config)
        self._open = None
        self.finished_iterations += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs, the iteration under way included."""
        return {
            "actor": learned_state(self.networks.actor),
            "critic": learned_state(self.networks.critic),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.weights,
            "kl_coef": self.kl_coef,
            "moments": asdict(self.moments),
            "finished_iterations": self.finished_iterations,
            "iteration": None if self._open is None else self._open.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        load_learned_state(self.networks.actor, state["actor"])
        load_learned_state(self.networks.critic, state["critic"])
        self.actor_optimizer.load_state_dict(state["actor_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        if self.ema is not None:
            for name, tensor in self.ema.weights.items():
                tensor.copy_(state["ema"][name])
        self.kl_coef = state["kl_coef"]
        self.moments = ScoreMoments(**state["moments"])
        self.finished_iterations = state["finished_iterations"]
        self._open = None
        if state["iteration"] is not None:
            device = self.networks.actor.device
            self._open = Iteration.from_state_dict(state["iteration"], device)

    def _collect(self) -> Rollout:
        return collect_rollout(
            self.networks,
            self._prompts_of(self.finished_iterations),
            config=self.config,
            sampling=self.sampling,
            moments=self.moments,
            kl_coef=self.kl_coef,
            eos_token_id=self.eos_token_id,
            generator=self._generator(f"rollout.{self.finished_iterations}"),
            side_by_side=self._side_by_side,
        )

    def _update(self, iteration: Iteration) -> None:
        """Take the optimiser steps that are left."""
        started, before = time.perf_counter(), iteration.update_seconds
        for group in self.actor_optimizer.param_groups:
            group["lr"] = self._actor_learning_rate(self.finished_iterations)
        for index, rows in enumerate(self._minibatches(self.finished_iterations)):
            if iteration.stopped:
                break
            if index < len(iteration.taken):
                continue
            with self._interruption.held():
                metrics = self._optimise(iteration.rollout, rows, index)
                iteration.stopped = metrics.get("policy/approx_kl", 0) > self.config.max_approx_kl
                iteration.taken.append(metrics)
                iteration.update_seconds = before + time.perf_counter() - started

    def _optimise(self, rollout: Rollout, rows: torch.Tensor, index: int) -> dict[str, float]:
        """Take one optimiser step of the critic and, after its warm-up, of the actor."""
        config, networks = self.config, self.networks

        def move_actor() -> dict[str, float]:
            if not self._actor_learns:
                return {}
            return actor_step(
                networks.actor, self.actor_optimizer, rollout, rows,
                distribution=TokenDistribution.of(self.sampling, self.eos_token_id),
                config=config, ptx=self._ptx(index),
            )  # fmt: skip

        def move_critic() -> dict[str, float]:
            return critic_step(
                networks.critic, self.critic_optimizer, rollout, rows,
                moments=self.moments, config=config,
            )  # fmt: skip

        try:
            policy, value = self._side_by_side.run(move_actor, move_critic)
        except DivergedError as error:
            raise DivergedError(f"in iteration {self.finished_iterations}, {error}") from error
        if self.ema is not None and "policy/grad_norm" in policy:
            self.ema.update(networks.actor)
        return value | policy

    def _ptx(self, index: int) -> Callable[[], float] | None:
        """The pretraining mix of optimiser step `index`, if there is one."""
        if not self.config.ptx_coef or self._corpus is None:
            return None
        corpus = self._corpus
        return lambda: ptx_backward(
            self.networks.actor,
            corpus,
            rows=self.config.ptx_rows,
            coefficient=self.config.ptx_coef,
            max_tokens=self.config.tokens_per_microbatch,
            generator=self._generator(f"ptx.{self.finished_iterations}.{index}"),
        )

    def _report(self, iteration: Iteration) -> dict[str, float]:
        """Join what the rollout showed with what the optimiser steps did."""
        steps = iteration.taken
        metrics = {**iteration.rollout.metrics, **_mean_of(steps)}
        if self._actor_learns:
            metrics["policy/first_ratio_error"] = steps[0]["policy/ratio_error"]
            metrics["policy/first_approx_kl"] = steps[0]["policy/approx_kl"]
            metrics["policy/ratio_max"] = max(one["policy/ratio_max"] for one in steps)
            metrics["policy/learning_rate"] = self._actor_learning_rate(self.finished_iterations)
            metrics["policy/early_stop"] = float(iteration.stopped)
            del metrics["policy/ratio_error"]
        steps_taken = (len(steps) - iteration.stopped) * self._actor_learns
        seconds = iteration.rollout_seconds + iteration.update_seconds
        return {
            **metrics,
            "policy/optimizer_steps": float(steps_taken),
            "time/rollout_seconds": iteration.rollout_seconds,
            "time/update_seconds": iteration.update_seconds,
            "time/tokens_per_second": int(iteration.rollout.sequences.lengths.sum()) / seconds,
        }

    @property
    def _actor_learns(self) -> bool:
        return self.finished_iterations >= self.config.critic_warmup_iterations

    def _minibatches(self, iteration: int) -> Iterator[torch.Tensor]:
        """Row indices of every optimiser step: each epoch but the first shuffles anew.

        The first takes the rows as they lie; the walk through the prompts has shuffled them.
        """
        rows = self.config.rollouts_per_iteration
        for epoch in range(self.config.ppo_epochs):
            order = torch.arange(rows)
            if epoch > 0:
                order = torch.randperm(
                    rows, generator=self._generator(f"minibatch.{iteration}.{epoch}")
                )
            order = order.to(self.networks.actor.device)
            yield from torch.split(order, self.config.rollouts_per_minibatch)

    def _prompts_of(self, iteration: int) -> list[list[int]]:
        """Walk through the prompts, shuffled anew at each pass."""
        first = iteration * self.config.rollouts_per_iteration
        chosen: list[list[int]] = []
        while len(chosen) < self.config.rollouts_per_iteration:
            passed, position = divmod(first + len(chosen), len(self.prompts))
            order = torch.randperm(
                len(self.prompts), generator=self._generator(f"prompts.{passed}")
            ).tolist()
            room = self.config.rollouts_per_iteration - len(chosen)
            chosen += [self.prompts[index] for index in order[position : position + room]]
        return chosen

    def _actor_learning_rate(self, iteration: int) -> float:
        """Fall linearly from the peak at the first iteration to 10% of it at the last."""
        done = iteration / max(1, self.config.iterations - 1)
        return self.config.actor_learning_rate * (1.0 - (1.0 - FINAL_LEARNING_RATE) * done)

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, f"ppo.{name}"))


def _mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Average each metric over the optimiser steps that report it."""
    counts = Counter(name for step in steps for name in step)
    return {name: sum(step.get(name, 0.0) for step in steps) / counts[name] for name in counts}
