"""Options of the trainer: pretraining mix, moving average, KL steering, clamps, precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.errors import ParameterError
from models.language.config import SamplingConfig
from models.ppo.networks import Networks
from models.ppo.ptx import ptx_backward
from models.ppo.trainer import PPOTrainer
from models.training.adapters import learned_state

Trainers = Callable[..., PPOTrainer]
Weights = Callable[[Any], dict[str, torch.Tensor]]
Same = Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], bool]
BLOCKS = torch.randint(2, 16, (5, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("max_tokens", [1, 30, 1000])
def test_ptx_gradient_is_that_of_the_mean_next_token_loss(
    make_network: Callable[..., Any], max_tokens: int
) -> None:
    """Against transformers' own loss on the same blocks, all at once."""
    model = make_network("llama")
    model.zero_grad()
    loss = ptx_backward(
        model, BLOCKS, rows=7, coefficient=0.3, max_tokens=max_tokens,
        generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    got = [p.grad.clone() for p in model.parameters()]
    drawn = BLOCKS[torch.randint(5, (7,), generator=torch.Generator().manual_seed(4))]
    model.zero_grad()
    wanted = model(drawn, labels=drawn).loss
    (0.3 * wanted).backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-5)
    for one, parameter in zip(got, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=0)


def test_ptx_joins_the_same_optimiser_step(make_trainer: Trainers) -> None:
    """The actor's gradient is the sum of both; as many steps are taken as without."""
    metrics = {}
    for coefficient in (0.0, 0.5):
        trainer = make_trainer(corpus=BLOCKS, ptx_coef=coefficient, ptx_rows=3)
        metrics[coefficient] = trainer.step()
    assert "policy/ptx_loss" not in metrics[0.0]
    assert metrics[0.5]["policy/ptx_loss"] > 1.0
    assert metrics[0.5]["policy/optimizer_steps"] == metrics[0.0]["policy/optimizer_steps"] == 4
    assert metrics[0.5]["policy/grad_norm"] != metrics[0.0]["policy/grad_norm"]


def test_ptx_teaches_the_corpus(make_trainer: Trainers) -> None:
    losses = []
    trainer = make_trainer(corpus=BLOCKS, ptx_coef=5.0, ptx_rows=5, iterations=12)
    for _ in range(12):
        losses.append(trainer.step()["policy/ptx_loss"])
    assert losses[-1] < 0.8 * losses[0]


def test_ptx_without_a_corpus_is_refused(make_trainer: Trainers) -> None:
    with pytest.raises(ParameterError, match=r"ptx_coef is 0.1 but the data has no corpus"):
        make_trainer(ptx_coef=0.1)


def test_moving_average_follows_every_step_of_the_actor(
    make_trainer: Trainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(ema_decay=0.75, critic_warmup_iterations=1)
    actor = trainer.networks.actor
    expected = {name: tensor.clone() for name, tensor in learned_state(actor).items()}
    trainer.step()  # the actor rests, and so does its average
    assert trainer.ema is not None
    assert all(torch.equal(trainer.ema.weights[name], expected[name]) for name in expected)
    update = trainer._update

    def watched(*given: Any) -> dict[str, float]:
        metrics = update(*given)
        for name, tensor in learned_state(actor).items():
            expected[name] = 0.75 * expected[name] + 0.25 * tensor
        return metrics

    monkeypatch.setattr(trainer, "_update", watched)
    trainer.step()
    for name, tensor in expected.items():
        torch.testing.assert_close(trainer.ema.weights[name], tensor, atol=1e-6, rtol=0)
        assert not torch.equal(trainer.ema.weights[name], learned_state(actor)[name])


def test_adaptive_coefficient_is_used_in_the_next_rollout(make_trainer: Trainers) -> None:
    trainer = make_trainer(kl_coef=0.1, kl_target=1e-6, kl_horizon=40)
    coefficients = [trainer.step()["objective/kl_coef"] for _ in range(3)]
    # Iteration 1 samples from the reference itself, KL 0: 20% too low, 8 of 40 rollouts of it.
    assert coefficients[:2] == [0.1, pytest.approx(0.1 * (1 - 0.2 * 8 / 40))]
    assert coefficients[2] > coefficients[1]  # by then the policy has moved


def test_score_clamp_holds_what_is_learned_from(make_trainer: Trainers, seen: list[Any]) -> None:
    free, held = make_trainer().step(), make_trainer(score_clip=0.01).step()
    assert abs(free["objective/score_normalised"]) > 0.01
    assert abs(held["objective/score_normalised"]) <= 0.01
    assert free["objective/score"] == held["objective/score"]  # the raw score is reported as it is


def test_advantages_may_stay_as_they_are(make_trainer: Trainers, seen: list[Any]) -> None:
    make_trainer(whiten_advantages=True).step()
    make_trainer(whiten_advantages=False).step()
    white, raw = (call.rollout for call in seen)
    mask = raw.sequences.completion_mask
    counted = raw.advantages[mask]
    wanted = (counted - counted.mean()) / counted.std(unbiased=False)
    torch.testing.assert_close(white.advantages[mask], wanted, atol=1e-4, rtol=0)
    assert abs(float(counted.mean())) > 1e-3
    torch.testing.assert_close(
        raw.advantages + raw.old_values, torch.where(mask, raw.returns, 0.0), atol=1e-5, rtol=0
    )


def test_cut_completions_are_left_out_and_near_ones_pay_if_so_wanted(
    make_trainer: Trainers, seen: list[Any]
) -> None:
    for changes in ({"learn_from_cut": True}, {"learn_from_cut": False}, {"overlong_tokens": 4}):
        make_trainer(whiten_advantages=False, missing_eos_penalty=2.0, **changes).step()
    every, without, near = (call.rollout for call in seen)
    mask, lengths = every.sequences.completion_mask, every.sequences.completion_lengths
    limit = int(lengths.max())
    left_out = without.advantages.eq(0).all(dim=1)
    assert left_out.any()
    assert not left_out.all()
    assert bool((lengths[left_out] == limit).all())
    assert torch.equal(without.advantages[~left_out], every.advantages[~left_out])
    assert torch.equal(without.returns, every.returns)  # the critic learns from all
    # At the last token the penalty is all that differs.
    last = torch.arange(len(lengths)), lengths - 1
    lost = (every.returns[last] - near.returns[last]).clamp(min=0)
    ended = ~left_out
    wanted = 2.0 * ((lengths - (limit - 4)) / 4).clamp(0, 1)
    torch.testing.assert_close(lost[ended], wanted[ended], atol=1e-5, rtol=0)
    assert bool(mask[last].all())


def test_nothing_moves_the_actor_where_all_are_cut_and_left_out(make_trainer: Trainers) -> None:
    """Not even the entropy bonus."""
    for learn_from_cut in (True, False):
        metrics = make_trainer(
            sampling=SamplingConfig(max_completion_tokens=1),
            prompts=[[5, 6, 7]],
            learn_from_cut=learn_from_cut,
            entropy_coef=0.1,
        ).step()
        assert metrics["objective/eos_rate"] == 0.0
        assert (metrics["policy/grad_norm"] == 0.0) is not learn_from_cut


def test_checkpointed_gradients_are_the_same_gradients(
    make_trainer: Trainers,
    make_four_networks: Callable[..., Networks],
    weights_of: Weights,
) -> None:
    """With dropout in the config, too: it is off for PPO, also where training mode is on."""
    plain, checkpointed = (
        make_trainer(
            networks=make_four_networks("gpt2", dropout=0.1), gradient_checkpointing=choice
        )
        for choice in (False, True)
    )
    for _ in range(2):
        wanted, got = plain.step(), checkpointed.step()
        assert got["policy/first_ratio_error"] <= 1e-6
        assert got["policy/grad_norm"] == pytest.approx(wanted["policy/grad_norm"], rel=1e-4)
    assert checkpointed.networks.actor.is_activation_checkpointing
    for one, other in zip(
        weights_of(plain.networks.actor).values(),
        weights_of(checkpointed.networks.actor).values(),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


def test_bfloat16_weights_have_float32_masters_logprobs_and_ratios(
    make_trainer: Trainers, seen: list[Any]
) -> None:
    precise, rough = make_trainer(), make_trainer(precision="bfloat16")
    wanted, got = precise.step(), rough.step()
    assert got["policy/first_ratio_error"] == 0.0  # old and new logprobs are rounded alike
    rollout = seen[1].rollout
    assert rollout.old_logprobs.dtype == rollout.old_values.dtype == torch.float32
    assert {p.dtype for p in rough.networks.actor.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in learned_state(rough.networks.actor).values()} == {torch.float32}
    # bfloat16 has 8 bits: logits of size 10 are rounded by up to 0.03.
    assert 1e-4 < got["objective/sampler_error"] < 0.3
    assert wanted["objective/sampler_error"] < 2e-5


def test_shortest_completion_holds_in_rollouts_and_in_their_logprobs(
    make_trainer: Trainers, seen: list[Any]
) -> None:
    sampling = SamplingConfig(max_completion_tokens=8, min_completion_tokens=5)
    metrics = make_trainer(sampling=sampling, kl_coef=0.5).step()
    lengths = seen[0].rollout.sequences.completion_lengths
    assert int(lengths.min()) >= 5
    assert metrics["policy/first_ratio_error"] <= 1e-6
    assert metrics["objective/sampler_error"] < 2e-5
    assert metrics["objective/kl_to_reference"] == pytest.approx(0.0, abs=1e-4)
