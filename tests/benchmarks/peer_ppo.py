"""The peer's side of the PPO benchmark: TRL's PPOTrainer, timed from outside; run by `ppo.py`.

Nothing of the peer is changed but what it reads its prompts from, so that both sides see the same
prompts in the same order. Accumulation stays 1: above it, TRL 1.12 takes fewer optimiser steps.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from networks import Roles, TokenCounter, adapter, digest, roles, tokenizer
from quiet import Enough, Rounds, child_arguments, emit_header
from workloads import (
    EOS_ID,
    LEARNING_RATE,
    MINIBATCHES,
    WORKLOADS,
    Workload,
    prompt_blocks,
)


class Phases:
    """Seconds by phase and the new tokens of one iteration."""

    def __init__(self, workload: Workload) -> None:
        """Begin with nothing."""
        self.ends = workload.eos_boost is not None
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.new_tokens = 0

    def watch(self, module: Any) -> None:
        """Time the peer's functions for sampling and, where no gradient is wanted, judging."""
        module.batch_generation = self._sampling(module.batch_generation)
        module.forward = self._judging(module.forward)
        module.get_reward = self._judging(module.get_reward)

    def take(self) -> dict[str, float]:
        """Give and forget the seconds of this iteration."""
        seconds, self.seconds = dict(self.seconds), defaultdict(float)
        return seconds

    def _sampling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(model: Any, prompts: torch.Tensor, *more: Any) -> Any:
            started = time.perf_counter()
            rows, scores = function(model, prompts, *more)
            self.seconds["sampling"] += time.perf_counter() - started
            self.new_tokens = self._count(rows[:, prompts.shape[1] :])
            return rows, scores

        return timed

    def _judging(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*given, **named)
            if not torch.is_grad_enabled():
                self.seconds["judging"] += time.perf_counter() - started
            return result

        return timed

    def _count(self, completions: torch.Tensor) -> int:
        """Tokens up to and with EOS."""
        ended = (completions == EOS_ID) & self.ends
        return int((ended.cumsum(1) - ended.long() == 0).sum())


class Prompts:
    """Stands where the peer's shuffling data loader stood: one batch a round, in order."""

    def __init__(self, rounds: Rounds, blocks: list[list[list[int]]], encoder: Any) -> None:
        """Hold the batches of all rounds."""
        self.rounds = rounds
        self.batches = [
            encoder.pad({"input_ids": block}, padding=True, return_tensors="pt") for block in blocks
        ]

    def __iter__(self) -> Iterator[Any]:
        """Give the batch of the round that is to come."""
        while True:
            yield self.batches[self.rounds.number]


def main() -> None:
    """Run one workload."""
    arguments = child_arguments("Measure the peer's PPO.")
    torch.set_num_threads(arguments.threads)
    from trl.experimental.ppo import ppo_trainer

    workload = WORKLOADS[arguments.what]
    rounds = Rounds(arguments)
    blocks = prompt_blocks(workload, rounds.last + 1)
    phases = Phases(workload)
    phases.watch(ppo_trainer)
    networks = roles(workload.size, workload.eos_boost)
    weights = digest(networks.actor)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(networks, workload, rounds, blocks, folder)
        counter = TokenCounter(trainer.policy_model.base_model)

        def end_round(*ignored: Any) -> None:
            rounds.end(
                prompt_lengths=[len(prompt) for prompt in blocks[rounds.number]],
                new_tokens=phases.new_tokens,
                trained_tokens=counter.take() / workload.epochs,
                phases=phases.take(),
            )
            rounds.begin()

        trainer.log = end_round  # the last that an iteration does, and once in each
        emit_header(weights=weights)
        rounds.begin()
        with suppress(Enough):
            trainer.train()


def _trainer(
    networks: Roles, workload: Workload, rounds: Rounds, blocks: list[list[list[int]]], folder: str
) -> Any:
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    encoder = tokenizer(workload.size)
    peft_config = None
    if workload.lora_rank:  # the peer's own way: its reference is the policy without the adapter
        peft_config = adapter(workload.lora_rank, "CAUSAL_LM")
        networks.critic.add_adapter(adapter(workload.lora_rank, "SEQ_CLS"))
        networks.critic.score.requires_grad_(True)
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=folder,
            total_episodes=workload.rollouts * rounds.most,
            per_device_train_batch_size=workload.rollouts,
            gradient_accumulation_steps=1,
            local_rollout_forward_batch_size=workload.rollouts,
            num_mini_batches=MINIBATCHES,
            num_ppo_epochs=workload.epochs,
            response_length=workload.new_tokens,
            stop_token_id=None if workload.eos_boost is None else EOS_ID,
            temperature=1.0,
            learning_rate=LEARNING_RATE,
            num_sample_generations=0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            seed=3,
        ),
        processing_class=encoder,
        model=networks.actor,
        ref_model=None if peft_config else networks.reference,
        reward_model=networks.reward_model,
        value_model=networks.critic,
        peft_config=peft_config,
        train_dataset=Dataset.from_dict({"input_ids": blocks[0]}),
    )
    trainer.dataloader = Prompts(rounds, blocks, encoder)
    return trainer


if __name__ == "__main__":
    main()
