"""Advantages without a critic: formulas by hand, the groups of a rollout, and whole trainings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints import latest
from models.ppo.advantages import compare_in_groups
from models.ppo.trainer import PPOTrainer

Trainers = Callable[..., PPOTrainer]
NAN = float("nan")
GROUPS = torch.tensor([1, 0, 0, 1, 1, 0])  # rows of two prompts, mixed by their lengths
# Sums by row: 3, 1, 2, 6, 0, 6. Group 0 has 1, 2, 6: mean 3; group 1 has 3, 6, 0: mean 3.
REWARDS = torch.tensor(
    [[1.0, 2.0], [1.0, NAN], [-1.0, 3.0], [6.0, NAN], [0.0, NAN], [2.0, 4.0]], dtype=torch.float64
)
MASK = ~REWARDS.isnan()


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        # 3 - (6 + 0) / 2; 1 - (2 + 6) / 2; 2 - (1 + 6) / 2; 6 - (3 + 0) / 2; 0 - (3 + 6) / 2;
        # 6 - (1 + 2) / 2
        ("rloo", [0.0, -3.0, -1.5, 4.5, -4.5, 4.5]),
        # variances (4 + 1 + 9) / 2 = 7 and (0 + 9 + 9) / 2 = 9; 1e-4 is added to their roots
        ("grpo", [0.0, -2 / (7**0.5 + 1e-4), -1 / (7**0.5 + 1e-4), 3 / 3.0001, -3 / 3.0001,
                  3 / (7**0.5 + 1e-4)]),
    ],
)  # fmt: skip
def test_completions_are_compared_with_those_of_their_prompt(
    method: Any, wanted: list[float]
) -> None:
    got = compare_in_groups(REWARDS, MASK, GROUPS, method=method)
    for row, value in enumerate(wanted):
        for token in range(2):
            own = value if MASK[row, token] else 0.0
            assert float(got[row, token]) == pytest.approx(own, abs=1e-12)


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_equal_rewards_teach_nothing(method: Any) -> None:
    rewards = torch.full((4, 1), 0.7)
    mask = torch.ones(4, 1, dtype=torch.bool)
    got = compare_in_groups(rewards, mask, torch.tensor([0, 0, 1, 1]), method=method)
    assert got.abs().max() < 1e-3


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_rollout_has_groups_of_one_prompt_that_lie_across_minibatches(
    make_trainer: Trainers, seen: list[Any], method: str
) -> None:
    trainer = make_trainer(
        advantages=method, group_size=3, rollouts_per_iteration=12, rollouts_per_minibatch=4,
        kl_coef=0.5,
    )  # fmt: skip
    metrics = trainer.step()
    prompts = [tuple(prompt) for prompt in seen[0].prompts]
    assert [prompts[start : start + 3] for start in range(0, 12, 3)] == [
        [prompt] * 3 for prompt in prompts[::3]
    ]
    assert len(set(prompts)) == 4
    rollout = seen[0].rollout
    assert rollout.old_values is None
    assert rollout.returns is None
    rows = rollout.sequences
    worth: dict[tuple[int, ...], list[float]] = {}
    for row in range(12):
        begins, tokens = int(rows.prompt_lengths[row]), int(rows.completion_lengths[row])
        counted = rollout.advantages[row, :tokens].tolist()
        assert len(set(counted)) == 1  # every token of a completion is worth the same
        prompt = tuple(rows.input_ids[row, :begins].tolist())
        worth.setdefault(prompt, []).append(counted[0])
    assert set(worth) == set(prompts)
    for values in worth.values():
        assert len(values) == 3
        assert sum(values) == pytest.approx(0.0, abs=1e-4)
    assert max(abs(value) for values in worth.values() for value in values) > 0.1
    assert metrics["policy/first_ratio_error"] == 0.0
    assert metrics["objective/group_reward_std"] > 0.0
    assert not any(name.startswith("value/") for name in metrics)


def test_prompts_of_groups_are_each_taken_once_in_every_pass(
    make_trainer: Trainers, seen: list[Any]
) -> None:
    trainer = make_trainer(
        advantages="rloo", group_size=2, rollouts_per_iteration=4, rollouts_per_minibatch=4,
        ppo_epochs=1,
    )  # fmt: skip
    for _ in range(3):
        trainer.step()
    walked = [tuple(prompt) for call in seen for prompt in call.prompts[::2]]
    assert sorted(walked) == sorted(tuple(prompt) for prompt in trainer.prompts)


CASES: dict[str, dict[str, Any]] = {
    "rloo": {"advantages": "rloo", "group_size": 2, "ptx_coef": 0.2, "ptx_rows": 2},
    "grpo": {"advantages": "grpo", "group_size": 3, "lora": {"rank": 2, "alpha": 4.0}},
}


@pytest.mark.parametrize("name", CASES)
def test_training_without_a_critic_resumes_to_the_bit_and_publishes_none(
    train: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    config = CASES[name] | {"ema_decay": 0.5}
    whole = train(tmp_path / "whole", config=config)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "torn", config=config, interrupt_at=3)
    state = torch.load(latest(tmp_path / "torn" / "checkpoints") / "state.pt", weights_only=True)
    assert state["critic"] is None
    assert state["critic_optimizer"] is None
    resumed = train(tmp_path / "torn", config=config)
    published = sorted(path for path in whole.out.rglob("*") if path.is_file())
    assert {path.name for path in whole.out.iterdir()} >= {"model", "ema"}
    assert not list(whole.out.glob("critic*"))
    for path in published:
        assert path.read_bytes() == (resumed.out / path.relative_to(whole.out)).read_bytes()
    for step, metrics in resumed.logged.items():
        for metric, value in metrics.items():
            assert "/time/" in metric or value == whole.logged[step][metric]
    assert whole.logged[1]["ppo/policy/grad_norm"] > 0.0  # no critic's warm-up to wait for
    names = set(whole.logged[5])
    assert not any("critic" in one or one.startswith("ppo/value/") for one in names)
    assert ("ppo/policy/ptx_loss" in names) == (name == "rloo")
