"""What an iteration takes: prompts, minibatches, random seeds and learning rates."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.ppo.trainer import PPOTrainer

Trainers = Callable[..., PPOTrainer]


def test_prompts_are_each_taken_once_in_every_pass(make_trainer: Trainers, seen: list[Any]) -> None:
    trainer = make_trainer(
        rollouts_per_iteration=4, rollouts_per_minibatch=4, ppo_epochs=1, iterations=6
    )
    for _ in range(6):
        trainer.step()
    # 6 iterations of 4 prompts are 4 passes over 6 prompts; passes end inside iterations.
    walked = [tuple(prompt) for call in seen for prompt in call.prompts]
    passes = [walked[start : start + 6] for start in range(0, 24, 6)]
    for one in passes:
        assert Counter(one) == Counter(tuple(prompt) for prompt in trainer.prompts)
    assert len(set(map(tuple, passes))) > 1  # shuffled again


def test_rollouts_larger_than_all_prompts_go_round(make_trainer: Trainers, seen: list[Any]) -> None:
    make_trainer(prompts=[[5], [6, 7]], rollouts_per_iteration=5, rollouts_per_minibatch=5).step()
    counts = Counter(tuple(prompt) for prompt in seen[0].prompts)
    assert sorted(counts.values()) == [2, 3]


def test_minibatches_cover_each_rollout_once_an_epoch(
    make_trainer: Trainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(ppo_epochs=3)
    rows: list[list[int]] = []
    update = trainer._update

    def watched(rollout: Any, picked: torch.Tensor, index: int) -> dict[str, float]:
        rows.append(picked.tolist())
        return update(rollout, picked, index)

    monkeypatch.setattr(trainer, "_update", watched)
    trainer.step()
    assert [len(picked) for picked in rows] == [4] * 6
    epochs = [rows[start] + rows[start + 1] for start in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_actor_learning_rate_falls_to_a_tenth_and_the_critics_stays(
    make_trainer: Trainers,
) -> None:
    trainer = make_trainer(iterations=5, actor_learning_rate=1e-3, critic_learning_rate=2e-3)
    rates = []
    for _ in range(5):
        metrics = trainer.step()
        rates.append(metrics["policy/learning_rate"])
        assert trainer.actor_optimizer.param_groups[0]["lr"] == rates[-1]
        assert trainer.critic_optimizer.param_groups[0]["lr"] == 2e-3
    # Equal steps of (1 - 0.1) / 4 = 0.225 of the peak.
    assert rates == pytest.approx([1e-3, 7.75e-4, 5.5e-4, 3.25e-4, 1e-4])


def test_seeds_lead_to_other_rollouts(make_trainer: Trainers, seen: list[Any]) -> None:
    for seed in (0, 0, 1):
        make_trainer(seed=seed).step()
    ids = [call.rollout.sequences.input_ids for call in seen]
    assert torch.equal(ids[0], ids[1])
    assert ids[0].shape != ids[2].shape or not torch.equal(ids[0], ids[2])


def test_iterations_of_one_prompt_have_other_random_seeds(
    make_trainer: Trainers, seen: list[Any]
) -> None:
    trainer = make_trainer(prompts=[[5, 6]], actor_learning_rate=1e-12)
    trainer.step()
    trainer.step()
    first, second = (call.rollout.sequences.input_ids.tolist() for call in seen)
    assert first != second
