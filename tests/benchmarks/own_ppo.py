"""The project's side of the PPO benchmark: `PPOTrainer.step()` as users call it; run by `ppo.py`.

`_trainer` is all that ties the benchmark to the trainer's interface.
"""

from contextlib import suppress
from typing import Any

from networks import Roles, TokenCounter, digest, roles
from quiet import Enough, Rounds, child_arguments, emit_header
from workloads import EOS_ID, LEARNING_RATE, WORKLOADS, Workload, prompt_blocks

from models.language.config import LoRAConfig, SamplingConfig
from models.language.scoring import ScoreMoments
from models.ppo.config import PPOConfig
from models.ppo.networks import Networks
from models.ppo.trainer import PPOTrainer
from models.runtime import use_device
from models.training.adapters import add_adapter, share_weights

NEVER = -1
"""An EOS id that no model says: every completion runs to its full length."""
TOKENS_PER_MICROBATCH = 16384
"""More than a minibatch has: like the peer, a whole one in each pass."""


def main() -> None:
    """Run one workload."""
    arguments = child_arguments("Measure the project's PPO.")
    use_device("cpu", arguments.threads)
    workload = WORKLOADS[arguments.what]
    rounds = Rounds(arguments)
    blocks = prompt_blocks(workload, rounds.last + 1)
    networks = roles(workload.size, workload.eos_boost)
    weights = digest(networks.actor)
    trainer = _trainer(networks, workload, rounds, blocks)
    counter = TokenCounter(trainer.networks.actor.base_model)
    emit_header(weights=weights)
    with suppress(Enough):
        while True:
            rounds.begin()
            metrics = trainer.step()
            rounds.end(
                prompt_lengths=[len(prompt) for prompt in blocks[rounds.number]],
                new_tokens=round(metrics["objective/completion_tokens"] * workload.rollouts),
                trained_tokens=counter.take() / workload.epochs,
                phases={
                    name.removeprefix("time/").removesuffix("_seconds"): value
                    for name, value in metrics.items()
                    if name.startswith("time/") and name.endswith("_seconds")
                },
            )


def _trainer(
    networks: Roles, workload: Workload, rounds: Rounds, blocks: list[list[list[int]]]
) -> Any:
    class Ordered(PPOTrainer):
        """Takes the round's prompts in their order instead of walking through all of them."""

        def _prompts_of(self, iteration: int) -> list[list[int]]:
            return blocks[rounds.number]

    assert hasattr(PPOTrainer, "_prompts_of"), "the trainer chooses its prompts elsewhere now"
    return Ordered(
        networks=_networks(networks, workload.lora_rank),
        prompts=[prompt for block in blocks for prompt in block],
        config=PPOConfig(
            iterations=rounds.most,
            rollouts_per_iteration=workload.rollouts,
            rollouts_per_minibatch=workload.rollouts_per_minibatch,
            tokens_per_microbatch=TOKENS_PER_MICROBATCH,
            ppo_epochs=workload.epochs,
            actor_learning_rate=LEARNING_RATE,
            critic_learning_rate=LEARNING_RATE,
            critic_warmup_iterations=0,
            max_approx_kl=1e9,
        ),
        sampling=SamplingConfig(max_completion_tokens=workload.new_tokens),
        moments=ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=2),
        eos_token_id=NEVER if workload.eos_boost is None else EOS_ID,
        seed=3,
    )


def _networks(made: Roles, lora_rank: int | None) -> Networks:
    """As `load_networks` gives them."""
    if lora_rank is None:
        return Networks(
            actor=made.actor,
            critic=made.critic,
            reference=made.reference,
            reward_model=made.reward_model,
        )
    for frozen in (made.actor, made.reward_model):
        frozen.requires_grad_(False)
    networks = Networks(
        actor=made.actor,
        critic=share_weights(made.reward_model),
        reference=share_weights(made.actor),
        reward_model=made.reward_model,
    )
    for network in networks.learning:
        add_adapter(network, LoRAConfig(rank=lora_rank), seed=0)
    return networks


if __name__ == "__main__":
    main()
