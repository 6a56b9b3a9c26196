"""PPO's parameters: what they refuse, and that a form can show them without torch."""

import re
import subprocess
import sys

import pytest
from pydantic import ValidationError

from models.ppo.config import PPOConfig


@pytest.mark.parametrize(
    ("rollouts_per_minibatch", "rollouts_per_iteration", "choices"),
    [
        # Nearest divisors of 32: 4 and 8 (2 away), 2 (4 away).
        (6, 32, "choose 2, 4 or 8"),
        (100, 128, "choose 32, 64 or 128"),
        (64, 8, "choose 2, 4 or 8"),  # larger than the rollout
        (4, 7, "choose 1 or 7"),  # a prime has two divisors
    ],
)
def test_config_names_sizes_and_choices_when_minibatches_do_not_divide(
    rollouts_per_minibatch: int, rollouts_per_iteration: int, choices: str
) -> None:
    message = (
        f"rollouts_per_minibatch {rollouts_per_minibatch} does not divide "
        f"rollouts_per_iteration {rollouts_per_iteration}; "
    )
    with pytest.raises(ValidationError, match=re.escape(message + choices)):
        PPOConfig(
            rollouts_per_minibatch=rollouts_per_minibatch,
            rollouts_per_iteration=rollouts_per_iteration,
        )
    for choice in re.findall(r"\d+", choices):
        PPOConfig(rollouts_per_minibatch=int(choice), rollouts_per_iteration=rollouts_per_iteration)


def test_config_names_the_only_choice_when_one_rollout_is_too_few() -> None:
    with pytest.raises(ValidationError, match="64 exceeds rollouts_per_iteration 1; choose 1"):
        PPOConfig(rollouts_per_iteration=1)


@pytest.mark.parametrize(
    ("group_size", "rollouts_per_iteration", "message"),
    [
        (8, 36, "group_size 8 does not divide rollouts_per_iteration 36; choose 4, 6 or 9"),
        (8, 7, "choose 7"),  # a prime has one divisor that makes a group
        (8, 1, "choose more rollouts_per_iteration"),
    ],
)
def test_config_names_group_sizes_that_divide(
    group_size: int, rollouts_per_iteration: int, message: str
) -> None:
    sizes = {"rollouts_per_iteration": rollouts_per_iteration, "rollouts_per_minibatch": 1}
    with pytest.raises(ValidationError, match=re.escape(message)):
        PPOConfig(advantages="rloo", group_size=group_size, **sizes)
    assert PPOConfig(group_size=group_size, **sizes).samples_per_prompt == 1  # of no use with gae


@pytest.mark.parametrize(
    "wrong",
    [
        {"kl_coef": -0.1},
        {"gamma": 0.0},
        {"gae_lambda": 1.1},
        {"iterations": 0},
        {"kl_coeff": 0.1},
        {"group_size": 1},
    ],
)
def test_config_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PPOConfig(**wrong)


def test_config_explains_every_field() -> None:
    assert all(field.title and field.description for field in PPOConfig.model_fields.values())


def test_config_imports_no_torch() -> None:
    code = "import sys, models.ppo.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
