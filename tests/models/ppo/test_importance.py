"""Importance weights by hand, what they do to the loss, and when they are there at all."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.ppo.importance import importance_weights
from models.ppo.losses import policy_loss
from models.ppo.trainer import PPOTrainer
from models.rollouts.engine import InProcess

Trainers = Callable[..., PPOTrainer]
NAN = float("nan")


def test_weights_are_ratios_up_to_the_cap() -> None:
    mask = torch.tensor([[True, True, True, True, False]])
    sampler = torch.tensor([[-1.0, -1.0, -1.0, -1e30, NAN]])
    # pi_old / pi_sampler: 0.5, 1, 3 (over the cap of 2), and a token the sampler could not give.
    moved = torch.tensor([[math.log(0.5), 0.0, math.log(3.0), 0.0, 0.0]])
    old = torch.cat([(sampler + moved)[:, :3], torch.tensor([[-2.0, 5.0]])], dim=1)
    got = importance_weights(old, sampler, mask, cap=2.0)
    assert got.tolist() == [[pytest.approx(0.5), 1.0, 2.0, 2.0, 0.0]]


def test_weights_multiply_each_tokens_loss_and_its_gradient() -> None:
    # Ratios 1.5 (held at 1.2), 0.5 and 1; advantages 1, 1, -4; weights 2, 0.5, 0.25.
    mask = torch.tensor([[True, True, True, False]])
    old = torch.tensor([[-1.0, -2.0, -3.0, -1.0]])
    moved = torch.tensor([[math.log(1.5), math.log(0.5), 0.0, 0.0]])
    logprobs = (old + moved).requires_grad_()
    advantages = torch.tensor([[1.0, 1.0, -4.0, 9.0]])
    weights = torch.tensor([[2.0, 0.5, 0.25, NAN]])
    got = policy_loss(logprobs, old, advantages, mask, clip_range=0.2, importance=weights)
    # 2 * -1.2 + 0.5 * -0.5 + 0.25 * 4
    assert got.loss.item() == pytest.approx(-2.4 - 0.25 + 1.0)
    got.loss.backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    # Held: 0; 0.5 * -0.5; 0.25 * 4.
    assert logprobs.grad.tolist() == [[0.0, pytest.approx(-0.25), pytest.approx(1.0), 0.0]]
    # What is watched is the policy's own and has no weights.
    plain = policy_loss(logprobs, old, advantages, mask, clip_range=0.2)
    assert got.ratio == plain.ratio
    assert got.approx_kl == plain.approx_kl


def test_weights_of_one_leave_the_loss_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(3, 5, generator=generator)
    logprobs = old + 0.3 * torch.randn(3, 5, generator=generator)
    advantages = torch.randn(3, 5, generator=generator)
    mask = torch.rand(3, 5, generator=generator) < 0.8
    exact = importance_weights(old, old, mask, cap=2.0)
    losses = [
        policy_loss(logprobs, old, advantages, mask, clip_range=0.2, importance=weights).loss
        for weights in (None, exact)
    ]
    assert torch.equal(losses[0], losses[1])


class Skewed(InProcess):
    """Samples from the actor, but says that each token was less likely by so many nats."""

    exact = False

    def __init__(self, nats: float) -> None:
        super().__init__()
        self._nats = nats

    def sample(self, *given: Any, **named: Any) -> Any:
        completions = super().sample(*given, **named)
        for completion in completions:
            completion.logprobs[:] = [one - self._nats for one in completion.logprobs]
        return completions


def _weights(trainer: PPOTrainer) -> list[torch.Tensor]:
    trainer.step()
    return [tensor.clone() for tensor in trainer.networks.actor.state_dict().values()]


def test_step_with_a_sampler_that_only_rounds_is_the_plain_step(make_trainer: Trainers) -> None:
    for one, other in zip(
        _weights(make_trainer()), _weights(make_trainer(engine=Skewed(0.0))), strict=True
    ):
        # Weights within 1e-5 of 1 change a step of Adam by about as much, relatively.
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_step_reports_the_weights_of_a_sampler_that_is_off(make_trainer: Trainers) -> None:
    trainer = make_trainer(engine=Skewed(0.5), importance_cap=1.5)
    metrics = trainer.step()
    # exp(0.5) = 1.65 lies over the cap everywhere.
    assert metrics["policy/importance_mean"] == metrics["policy/importance_max"] == 1.5
    assert metrics["policy/importance_capped"] == 1.0
    assert metrics["objective/sampler_error"] == pytest.approx(0.5, abs=1e-4)
    assert metrics["policy/first_ratio_error"] == 0.0  # old logprobs are the actor's own
    looser = make_trainer(engine=Skewed(0.5), importance_cap=2.0).step()
    assert looser["policy/importance_mean"] == pytest.approx(math.exp(0.5), abs=1e-3)
    assert looser["policy/importance_capped"] == 0.0
    assert looser["policy/loss"] == pytest.approx(
        math.exp(0.5) * make_trainer().step()["policy/loss"], rel=0.05
    )
