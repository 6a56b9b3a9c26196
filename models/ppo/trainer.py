"""The PPO trainer: `step()` is one iteration, as the papers describe it.

Differs from the common implementations: actor and critic are separate networks with separate
optimisers; losses are normalised by the counted tokens of the whole optimiser step; once a
minibatch finds the actor too far from the rollout's policy, its step of the actor is not taken
and the PPO epochs end.

Every random choice of an iteration derives from the root seed and the iteration's number, and
the learning rates are functions of that number. Nothing random has a state, so weights,
optimisers, a few numbers and the unfinished iteration are all that a resume needs. A signal that
arrives during an optimiser step takes effect after it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from models.distributed.interruption import Interruption
from models.distributed.parts import load_optimizer, spread, whole
from models.errors import DivergedError, ParameterError
from models.language.config import SamplingConfig
from models.language.scoring import ScoreMoments
from models.language.sequences import TokenDistribution
from models.ppo.advantages import advantages_of, cut_penalties, next_kl_coef, shape_rewards
from models.ppo.config import PPOConfig
from models.ppo.importance import importance_of
from models.ppo.iteration import Iteration
from models.ppo.networks import MovingAverage, Networks, prepare_networks
from models.ppo.ptx import ptx_backward
from models.ppo.rollout import Rollout, forward_networks, normalise_scores, rollout_metrics, sample
from models.ppo.side_by_side import SideBySide
from models.ppo.updates import actor_step, adamw, critic_step
from models.progress import told
from models.randomness import derive_seed
from models.rollouts.engine import InProcess, RolloutEngine
from models.training.adapters import learned_state, load_learned_state
from models.training.blocks import BlockTable

FINAL_LEARNING_RATE = 0.1
"""Share of its peak at which the actor's learning rate ends."""


class PPOTrainer:
    """Owns the networks, their optimisers and the count of finished iterations."""

    def __init__(
        self,
        *,
        networks: Networks,
        prompts: Sequence[list[int]],
        config: PPOConfig,
        sampling: SamplingConfig,
        moments: ScoreMoments,
        eos_token_id: int,
        seed: int,
        corpus: BlockTable | None = None,
        interruption: Interruption | None = None,
        engine: RolloutEngine | None = None,
    ) -> None:
        """Freeze reference and reward model and set up the optimisers.

        Args:
            prompts: Token ids of the training prompts.
            sampling: Of the rollouts; what shapes it shapes old, new and reference logprobs alike.
            moments: Of the reward model's scores on SFT completions.
            corpus: (blocks, block) token ids for the pretraining mix, if there is one.
            interruption: Holds signals back while weights move.
            engine: Samples the rollouts; by default this process.

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
        self.interruption = interruption or Interruption()
        self._engine = engine or InProcess()
        self._distribution = TokenDistribution.of(sampling, eos_token_id)
        self._unfinished: Iteration | None = None
        critic = networks.critic
        self._side_by_side = SideBySide(networks.actor.device, critic=critic is not None)
        prepare_networks(networks, config)
        self.actor_optimizer = adamw(networks.actor, config.actor_learning_rate, config)
        self.critic_optimizer = (
            None if critic is None else adamw(critic, config.critic_learning_rate, config)
        )
        self.ema = MovingAverage(networks.actor, config.ema_decay) if config.ema_decay else None

    def step(self, record: Callable[[dict[str, float]], None] | None = None) -> dict[str, float]:
        """Run one iteration of PPO, or the rest of one that was interrupted.

        Args:
            record: Receives the metrics as soon as the iteration is counted, before a signal can
                take effect.

        Returns:
            The metrics.

        Raises:
            DivergedError: A loss or a gradient is not finite.
        """
        config, networks, number = self.config, self.networks, self.finished_iterations
        if self._unfinished is None:
            samples = sample(
                networks.actor, self._prompts_of(number), sampling=self.sampling, config=config,
                engine=self._engine, version=number,
                eos_token_id=self.eos_token_id, generator=self._generator(f"rollout.{number}"),
            )  # fmt: skip
            self.interruption.safe_point()
            outputs = forward_networks(
                networks, samples.sequences, distribution=self._distribution,
                moments=self.moments, config=config, side_by_side=self._side_by_side,
            )  # fmt: skip
            mask = samples.sequences.completion_mask
            scores = normalise_scores(outputs.scores, self.moments, config.score_clip)
            lost = cut_penalties(
                samples.sequences.completion_lengths, samples.finished,
                self.sampling.max_completion_tokens, config,
            )  # fmt: skip
            rewards = shape_rewards(
                scores - lost, outputs.old_logprobs, outputs.reference_logprobs, mask,
                kl_coef=self.kl_coef,
            )  # fmt: skip
            learned = samples.finished | config.learn_from_cut
            worth = advantages_of(
                rewards, outputs.old_values, mask, samples.groups, learned, config
            )
            metrics = rollout_metrics(
                samples, outputs, scores, rewards, worth.returns, self.kl_coef
            )
            importance, monitors = importance_of(samples, outputs.old_logprobs, config)
            rollout = Rollout(
                sequences=samples.sequences,
                old_logprobs=outputs.old_logprobs,
                old_values=outputs.old_values,
                learned=learned,
                advantages=worth.advantages,
                returns=worth.returns,
                metrics=metrics | monitors,
                importance=importance,
            )
            self._unfinished = Iteration(rollout=rollout)
            self.interruption.safe_point()
        iteration = self._unfinished  # new, or interrupted: then its updates continue
        for index, rows in self._minibatches_left(iteration):
            with self.interruption.held():  # a signal waits while weights move
                iteration.steps.append(self._update(iteration.rollout, rows, index))
        metrics = iteration.report()
        with self.interruption.held():  # counted and recorded, or neither
            self.kl_coef = next_kl_coef(self.kl_coef, metrics["objective/kl_to_reference"], config)
            self.finished_iterations += 1
            self._unfinished = None
            if record is not None:
                record(metrics)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs, an unfinished iteration included; tensors are whole.

        In a team every process calls this.
        """
        state = {
            "actor": learned_state(self.networks.actor),
            "critic": None,
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": None,
            "ema": None if self.ema is None else self.ema.weights,
            "kl_coef": self.kl_coef,
            "finished_iterations": self.finished_iterations,
            "unfinished": None if self._unfinished is None else self._unfinished.state_dict(),
        }
        if self.critic_optimizer is not None:
            state["critic"] = learned_state(self.networks.critic)
            state["critic_optimizer"] = self.critic_optimizer.state_dict()
        return whole(state)  # type: ignore[no-any-return]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; the next `step` resumes from there."""
        load_learned_state(self.networks.actor, state["actor"])
        load_optimizer(self.actor_optimizer, state["actor_optimizer"])
        if self.critic_optimizer is not None:
            load_learned_state(self.networks.critic, state["critic"])
            load_optimizer(self.critic_optimizer, state["critic_optimizer"])
        if self.ema is not None:
            for name, tensor in self.ema.weights.items():
                tensor.copy_(spread(state["ema"][name], tensor))
        self.kl_coef = state["kl_coef"]
        self.finished_iterations = state["finished_iterations"]
        self._unfinished = None
        if state["unfinished"] is not None:
            device = self.networks.actor.device
            self._unfinished = Iteration.from_state_dict(state["unfinished"], device)

    def _update(self, rollout: Rollout, rows: torch.Tensor, index: int) -> dict[str, float]:
        """Take one optimiser step of the critic, if any, and after its warm-up of the actor."""
        config, networks, started = self.config, self.networks, time.perf_counter()

        def update_actor() -> dict[str, float]:
            if self.finished_iterations < config.warmup_iterations:
                return {}
            return actor_step(
                networks.actor, self.actor_optimizer, rollout, rows,
                learning_rate=self._actor_learning_rate, distribution=self._distribution,
                config=config, ptx=self._ptx(index),
            )  # fmt: skip

        def update_critic() -> dict[str, float]:
            if self.critic_optimizer is None:
                return {}
            return critic_step(
                networks.critic, self.critic_optimizer, rollout, rows,
                moments=self.moments, config=config,
            )  # fmt: skip

        try:
            policy, value = self._side_by_side.run(update_actor, update_critic)
        except DivergedError as error:
            raise DivergedError(f"in iteration {self.finished_iterations}, {error}") from error
        if self.ema is not None and "policy/grad_norm" in policy:
            self.ema.update(networks.actor)
        return value | policy | {"time/update_seconds": time.perf_counter() - started}

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

    def _minibatches_left(self, iteration: Iteration) -> Iterator[tuple[int, torch.Tensor]]:
        """Index and rows of the optimiser steps that are still to be taken."""
        for index, rows in enumerate(told(self._minibatches(), "updating", unit="minibatches")):
            if iteration.stopped:
                return
            if index >= len(iteration.steps):
                yield index, rows

    def _minibatches(self) -> Iterator[torch.Tensor]:
        """Rows of every optimiser step: each epoch but the first shuffles them again.

        The first takes the rows in their order; `_prompts_of` has shuffled them.
        """
        rows = self.config.rollouts_per_iteration
        for epoch in range(self.config.ppo_epochs):
            order = torch.arange(rows)
            if epoch > 0:
                generator = self._generator(f"minibatch.{self.finished_iterations}.{epoch}")
                order = torch.randperm(rows, generator=generator)
            order = order.to(self.networks.actor.device)
            yield from torch.split(order, self.config.rollouts_per_minibatch)

    def _prompts_of(self, iteration: int) -> list[list[int]]:
        """Walk through the prompts, shuffled again at each pass; those of a group lie together."""
        copies = self.config.samples_per_prompt
        wanted = self.config.rollouts_per_iteration // copies
        first = iteration * wanted
        chosen: list[list[int]] = []
        while len(chosen) < wanted:
            passed, position = divmod(first + len(chosen), len(self.prompts))
            order = torch.randperm(
                len(self.prompts), generator=self._generator(f"prompts.{passed}")
            ).tolist()
            room = wanted - len(chosen)
            chosen += [self.prompts[index] for index in order[position : position + room]]
        return [prompt for prompt in chosen for _ in range(copies)]

    @property
    def _actor_learning_rate(self) -> float:
        """Falls linearly from the peak at the first iteration to 10% of it at the last."""
        done = self.finished_iterations / max(1, self.config.iterations - 1)
        return self.config.actor_learning_rate * (1.0 - (1.0 - FINAL_LEARNING_RATE) * done)

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, f"ppo.{name}"))
