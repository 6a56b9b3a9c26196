"""PPO learns: a bandit of eight arms with one rewarded, with and without the KL penalty.

Also where a server samples: `quartet serve`, which gets the actor's weights each iteration.
"""

from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.language.config import SamplingConfig
from models.language.packing import ATTENTION
from models.language.scoring import ScoreMoments
from models.ppo.networks import Networks
from models.ppo.trainer import PPOTrainer
from models.rollouts.engine import RolloutEngine
from models.rollouts.server import ServerEngine
from tests.models.rollouts.served import Served

Trainers = Callable[..., PPOTrainer]


class TokenReward(torch.nn.Module):
    """A reward model by hand: one point for a completion that ends with one certain token."""

    def __init__(self, vocab: int, rewarded: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(_attn_implementation=ATTENTION)
        self.score = torch.nn.Linear(vocab, 1, bias=False)
        self.score.weight.data = torch.nn.functional.one_hot(
            torch.tensor([rewarded]), vocab
        ).float()

    def base_model(self, input_ids: torch.Tensor, **_: Any) -> Any:
        hidden = torch.nn.functional.one_hot(input_ids, self.score.in_features).float()
        return SimpleNamespace(last_hidden_state=hidden)


BANDIT_PROMPT = [2]
REWARDED = 5


def _bandit(
    make_trainer: Trainers,
    make_network: Callable[..., Any],
    kl_coef: float,
    engine: RolloutEngine | None = None,
    iterations: int = 20,
    **changes: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Play a bandit of eight arms; probabilities of the arms before and after, float64."""
    networks = Networks(
        actor=make_network("llama", vocab=8, spread=0.1),
        critic=make_network("llama", vocab=8, score_head=True, seed=1, spread=0.1),
        reference=make_network("llama", vocab=8, spread=0.1),
        reward_model=TokenReward(8, REWARDED),
    )
    trainer = make_trainer(
        networks=networks,
        prompts=[BANDIT_PROMPT],
        sampling=SamplingConfig(max_completion_tokens=1),
        moments=ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=1),
        iterations=iterations,
        rollouts_per_iteration=32,
        rollouts_per_minibatch=16,
        actor_learning_rate=5e-3,
        critic_learning_rate=5e-3,
        missing_eos_penalty=0.0,
        max_approx_kl=0.2,
        kl_coef=kl_coef,
        engine=engine,
        **changes,
    )
    for _ in range(iterations):
        metrics = trainer.step()
        assert metrics["objective/sampler_error"] < 1e-4
        assert metrics["policy/first_ratio_error"] == 0.0
        assert ("policy/importance_mean" in metrics) == (engine is not None)
    prompt = torch.tensor([BANDIT_PROMPT])
    with torch.no_grad():
        before, after = (
            network(prompt).logits[0, -1].double().softmax(-1)
            for network in (networks.reference, networks.actor)
        )
    return before, after


def test_bandit_learns_from_a_server_that_gets_the_actor_each_iteration(
    make_trainer: Trainers, make_network: Callable[..., Any], rollout_server: Served
) -> None:
    with closing(ServerEngine(rollout_server.record())) as engine:
        before, after = _bandit(make_trainer, make_network, 0.0, engine, iterations=12)
    assert before[REWARDED] < 0.3
    assert after[REWARDED] > 0.9


@pytest.mark.parametrize("advantages", ["rloo", "grpo"])
def test_bandit_learns_without_a_critic(
    make_trainer: Trainers, make_network: Callable[..., Any], advantages: str
) -> None:
    before, after = _bandit(
        make_trainer, make_network, kl_coef=0.0, advantages=advantages, group_size=8
    )
    assert before[REWARDED] < 0.3
    assert after[REWARDED] > 0.9


def _divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    """KL(after || before), nats."""
    return float((after * (after.log() - before.log())).sum())


def test_bandit_learns_the_rewarded_token(
    make_trainer: Trainers, make_network: Callable[..., Any]
) -> None:
    before, after = _bandit(make_trainer, make_network, kl_coef=0.0)
    assert before[REWARDED] < 0.3
    assert after[REWARDED] > 0.9
    assert _divergence(before, after) > 1.0


def test_bandit_stays_near_the_reference_when_the_kl_coefficient_is_huge(
    make_trainer: Trainers, make_network: Callable[..., Any]
) -> None:
    before, after = _bandit(make_trainer, make_network, kl_coef=20.0)
    # The best policy is reference * exp(reward / 20), normalised: it gives the rewarded token at
    # most 5% more than before, which is less than 0.001 nats away.
    assert abs(after[REWARDED] - before[REWARDED]) < 0.1
    assert _divergence(before, after) < 0.02
