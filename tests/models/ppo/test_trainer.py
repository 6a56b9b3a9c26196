"""The trainer: its gradients against loops, who moves and who does not, and that it learns."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.errors import DivergedError
from models.language.scoring import ScoreMoments
from models.ppo.networks import Networks
from models.ppo.trainer import PPOTrainer

Trainers = Callable[..., PPOTrainer]
Weights = Callable[[Any], dict[str, torch.Tensor]]
Same = Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], bool]


def _plain_descent(trainer: PPOTrainer) -> None:
    """Replace AdamW by steps of learning rate 1, so that a step is the gradient itself."""
    trainer.actor_optimizer = torch.optim.SGD(trainer.networks.actor.parameters(), lr=1.0)
    trainer.critic_optimizer = torch.optim.SGD(trainer.networks.critic.parameters(), lr=1.0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tokens_per_microbatch", [1, 40, 10_000])
def test_first_minibatch_of_every_rollout_has_ratio_1(
    make_trainer: Trainers,
    make_four_networks: Callable[..., Networks],
    family: str,
    tokens_per_microbatch: int,
) -> None:
    trainer = make_trainer(
        networks=make_four_networks(family, dropout=0.1),
        tokens_per_microbatch=tokens_per_microbatch,
    )
    for _ in range(4):
        metrics = trainer.step()
        # Equal micro-batches are rounded alike: 0 here. With unequal ones it was up to 3e-6.
        assert metrics["policy/first_ratio_error"] <= 1e-6
        assert abs(metrics["policy/first_approx_kl"]) <= 1e-12
        assert metrics["policy/ratio_max"] > 1.001  # later minibatches have moved
        assert metrics["policy/approx_kl"] > 1e-6


def _loss_by_rows(
    trainer: PPOTrainer, unpadded: Any, rollout: Any, name: str, **coefs: float
) -> torch.Tensor:
    """The mean over all counted tokens of an on-policy minibatch's loss, row by row, unpadded."""
    rows, total, count = rollout.sequences, torch.zeros((), dtype=torch.float64), 0
    for row in range(len(rows)):
        start, n = int(rows.prompt_lengths[row]), int(rows.completion_lengths[row])
        ids = rows.input_ids[row, : start + n].tolist()
        prompt, completion = ids[:start], ids[start:]
        if name == "actor":
            log = unpadded.distributions(trainer.networks.actor, prompt, completion, 0.7)
            now = torch.stack([log[step, token] for step, token in enumerate(completion)])
            # Ratio 1: no clip, so minus advantage times ratio, minus the entropy bonus.
            ratio = (now - now.detach()).exp()
            total = total - (rollout.advantages[row, :n].double() * ratio).sum()
            if trainer.config.learn_from_cut or completion[-1] == trainer.eos_token_id:
                total = total + coefs["entropy_coef"] * (log.exp() * log).sum()
        else:
            values = unpadded.values(trainer.networks.critic, prompt, completion)
            values = (values - trainer.moments.mean) / trainer.moments.std
            errors = (values - rollout.returns[row, :n].double()) ** 2
            total = total + coefs["value_coef"] * 0.5 * errors.sum()
        count += n
    return total / count


@pytest.mark.parametrize("tokens_per_microbatch", [1, 40, 10_000])
@pytest.mark.parametrize(
    ("entropy_coef", "learn_from_cut"), [(0.0, True), (0.5, True), (0.5, False)]
)
def test_step_is_the_gradient_of_the_mean_over_all_tokens(
    make_trainer: Trainers,
    make_four_networks: Callable[..., Networks],
    unpadded: Any,
    seen: list[Any],
    tokens_per_microbatch: int,
    entropy_coef: float,
    learn_from_cut: bool,
) -> None:
    """One step over a whole ragged rollout, in micro-batches, equals loops over rows alone."""
    trainer = make_trainer(
        networks=make_four_networks(parted=True),
        seed=6,  # its completions have 2, 4, 5 and 8 tokens
        iterations=1,
        ppo_epochs=1,
        rollouts_per_minibatch=8,
        tokens_per_microbatch=tokens_per_microbatch,
        actor_learning_rate=1.0,
        entropy_coef=entropy_coef,
        learn_from_cut=learn_from_cut,
        value_coef=0.3,
        max_grad_norm=1e9,
    )
    _plain_descent(trainer)
    before = {
        name: [p.detach().clone() for p in getattr(trainer.networks, name).parameters()]
        for name in ("actor", "critic")
    }
    metrics = trainer.step()
    (call,) = seen
    assert len(set(call.rollout.sequences.completion_lengths.tolist())) > 2
    assert 0 < metrics["objective/eos_rate"] < 1
    for name, group in (("actor", "policy"), ("critic", "value")):
        network = getattr(trainer.networks, name)
        steps = [
            old - new.detach() for old, new in zip(before[name], network.parameters(), strict=True)
        ]
        with torch.no_grad():
            for parameter, old in zip(network.parameters(), before[name], strict=True):
                parameter.copy_(old)
        coefs = {"entropy_coef": entropy_coef, "value_coef": 0.3}
        loss = _loss_by_rows(trainer, unpadded, call.rollout, name, **coefs)
        wanted = torch.autograd.grad(loss, list(network.parameters()))
        norm = math.sqrt(sum(float((gradient.double() ** 2).sum()) for gradient in wanted))
        assert norm > 0.1
        assert metrics[f"{group}/grad_norm"] == pytest.approx(norm, rel=1e-4)
        for step, gradient in zip(steps, wanted, strict=True):
            # float32 sums in another order, and the weights' own rounding when stepped.
            torch.testing.assert_close(step, gradient, atol=2e-5 * norm, rtol=0)


def test_micro_batches_do_not_change_what_is_learned(
    make_trainer: Trainers, weights_of: Weights
) -> None:
    """With AdamW, clipping, several minibatches and epochs: the same weights up to rounding."""
    trainers = [make_trainer(tokens_per_microbatch=tokens) for tokens in (1, 40, 10_000)]
    metrics = [trainer.step() for trainer in trainers]
    weights = [weights_of(trainer.networks.actor) for trainer in trainers]
    for other in (1, 2):
        for name, tensor in weights[0].items():
            # AdamW divides by |gradient| + 1e-5: a gradient's rounding of 1e-8 becomes 1e-3 of a
            # step of 1e-3; four steps, and a margin of five.
            torch.testing.assert_close(tensor, weights[other][name], atol=2e-5, rtol=0)
        names = [name for name in metrics[0] if not name.startswith(("time/", "policy/first"))]
        wanted = {name: metrics[0][name] for name in names}
        got = {name: metrics[other][name] for name in names}
        assert got == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_gradients_are_clipped_to_their_global_norm(
    make_trainer: Trainers, weights_of: Weights
) -> None:
    trainer = make_trainer(
        iterations=1,
        ppo_epochs=1,
        rollouts_per_minibatch=8,
        actor_learning_rate=1.0,
        max_grad_norm=0.01,
    )
    _plain_descent(trainer)
    before = weights_of(trainer.networks.critic)
    metrics = trainer.step()
    after = weights_of(trainer.networks.critic)
    moved = math.sqrt(sum(float(((after[n] - before[n]) ** 2).sum()) for n in before))
    assert moved == pytest.approx(0.01, rel=1e-3)
    assert metrics["value/grad_norm"] > 0.1  # reported as it was before


def test_only_the_critic_learns_during_its_warm_up(
    make_trainer: Trainers, weights_of: Weights, same_weights: Same
) -> None:
    trainer = make_trainer(critic_warmup_iterations=2)
    actor, critic = weights_of(trainer.networks.actor), weights_of(trainer.networks.critic)
    for _ in range(2):
        metrics = trainer.step()
        assert metrics["policy/optimizer_steps"] == 0
        assert same_weights(weights_of(trainer.networks.actor), actor)
        assert not same_weights(weights_of(trainer.networks.critic), critic)
        critic = weights_of(trainer.networks.critic)
    assert trainer.step()["policy/optimizer_steps"] == 4  # 2 epochs of 8 / 4 minibatches
    assert not same_weights(weights_of(trainer.networks.actor), actor)


def test_reference_and_reward_model_stay_as_they_were(
    make_trainer: Trainers, weights_of: Weights, same_weights: Same
) -> None:
    trainer = make_trainer()
    frozen = [trainer.networks.reference, trainer.networks.reward_model]
    before = [weights_of(network) for network in frozen]
    for _ in range(3):
        trainer.step()
    for network, weights in zip(frozen, before, strict=True):
        assert same_weights(weights_of(network), weights)
        assert not any(parameter.requires_grad for parameter in network.parameters())
    for network in (trainer.networks.actor, trainer.networks.critic):
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_early_stop_does_not_take_the_step_that_goes_too_far(
    make_trainer: Trainers, weights_of: Weights, same_weights: Same
) -> None:
    """One step is taken; the second minibatch then finds the policy moved, and ends it all."""
    settings = {"rollouts_per_minibatch": 8, "actor_learning_rate": 0.01}
    stopped = make_trainer(ppo_epochs=4, max_approx_kl=1e-3, **settings)
    single = make_trainer(ppo_epochs=1, **settings)
    free = make_trainer(ppo_epochs=4, **settings)
    metrics = stopped.step()
    assert metrics["policy/early_stop"] == 1
    assert metrics["policy/optimizer_steps"] == 1
    assert single.step()["policy/early_stop"] == 0
    assert free.step()["policy/optimizer_steps"] == 4
    weights = [weights_of(trainer.networks.actor) for trainer in (stopped, single, free)]
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])
    # Nothing of the step that was not taken leaks into the next iteration.
    assert all(parameter.grad is None for parameter in stopped.networks.actor.parameters())


def test_trainer_resumes_from_its_saved_state_to_the_bit(
    make_trainer: Trainers, weights_of: Weights, same_weights: Same
) -> None:
    whole, broken, resumed = (make_trainer(critic_warmup_iterations=1) for _ in range(3))
    for _ in range(4):
        wanted = whole.step()
    for _ in range(2):
        broken.step()
    resumed.load_state_dict(_saved(broken))
    for _ in range(2):
        got = resumed.step()
    for name in ("actor", "critic"):
        ends = [weights_of(getattr(trainer.networks, name)) for trainer in (whole, resumed)]
        assert same_weights(*ends)
    assert _timeless(got) == _timeless(wanted)


def _saved(trainer: PPOTrainer) -> dict[str, Any]:
    """The state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def _timeless(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def test_step_finishes_an_interrupted_iteration_before_it_samples_again(
    make_trainer: Trainers,
    weights_of: Weights,
    same_weights: Same,
    seen: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, broken, resumed = (make_trainer() for _ in range(3))
    wanted, update = whole.step(), broken._update

    def interrupted(rollout: Any, rows: torch.Tensor, index: int) -> dict[str, float]:
        if index == 2:  # of 4
            raise KeyboardInterrupt
        return update(rollout, rows, index)

    monkeypatch.setattr(broken, "_update", interrupted)
    recorded: list[dict[str, float]] = []
    with pytest.raises(KeyboardInterrupt):
        broken.step(recorded.append)
    assert (recorded, broken.finished_iterations) == ([], 0)
    resumed.load_state_dict(_saved(broken))
    got = resumed.step(recorded.append)
    assert (recorded, resumed.finished_iterations) == ([got], 1)
    assert len(seen) == 2  # the whole and the broken trainer's; the resumed one sampled nothing
    assert _timeless(got) == _timeless(wanted)
    for name in ("actor", "critic"):
        ends = [weights_of(getattr(trainer.networks, name)) for trainer in (whole, resumed)]
        assert same_weights(*ends)
    assert _timeless(resumed.step()) == _timeless(whole.step())


def test_diverged_loss_is_an_error_before_any_weight_moves(
    make_trainer: Trainers, weights_of: Weights, same_weights: Same
) -> None:
    broken = ScoreMoments(mean=math.nan, std=1.0, raw_std=1.0, samples=1)
    trainer = make_trainer(moments=broken)
    before = [weights_of(net) for net in (trainer.networks.actor, trainer.networks.critic)]
    with pytest.raises(
        DivergedError, match=r"in iteration 0, the policy loss of PPO is nan; .* wanted"
    ):
        trainer.step()
    after = [weights_of(net) for net in (trainer.networks.actor, trainer.networks.critic)]
    assert all(same_weights(*pair) for pair in zip(before, after, strict=True))


def test_broken_actor_weights_are_an_error(make_trainer: Trainers) -> None:
    trainer = make_trainer()
    trainer.step()
    with torch.no_grad():
        next(trainer.networks.actor.parameters())[:] = math.nan
    with pytest.raises(DivergedError, match="in iteration 1"):
        trainer.step()
