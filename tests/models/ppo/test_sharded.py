"""PPO with networks that are spread over processes: what one process learns with whole ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from models.distributed import sharding
from models.distributed.team import Team
from models.errors import ParameterError
from models.language.config import LoRAConfig
from models.ppo import networks
from models.ppo.config import PPOConfig
from tests.models.distributed.processes import in_team
from tests.models.ppo.members import folders_of, iterate, several, train

CASE = {"all": {"ema_decay": 0.9, "ptx_coef": 0.3, "ptx_rows": 3, "iterations": 2}}
SIGTERM_CODE = 143


def _weights(folder: Path) -> Any:
    parts = [load_file(folder / "out" / name / "model.safetensors") for name in ("model", "critic")]
    return np.concatenate([one.numpy().ravel() for part in parts for one in part.values()])


def _near(one: Any, other: Any) -> bool:
    return bool(np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one))


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {"sharding": "full"},
        pytest.param({"tensor_parallel": 2}, marks=pytest.mark.campaign),
    ],
    ids=str,
)
def test_spread_networks_learn_the_same(world: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    """And the stage stops, resumes to the bit, and is resumed by one process with whole ones."""
    folders, stopped, alone = folders_of(world), tmp_path / "stopped", tmp_path / "alone"
    calls = [
        (iterate, world.sft, world.reward, CASE),
        (train, folders, tmp_path / "whole"),
        (train, folders, stopped, 5),
        (shutil.copytree, stopped, alone, None, None, shutil.copy2, False, True),
        (train, folders, stopped),
    ]
    members = in_team(2, several, *calls, scratch=tmp_path, **layout)
    expected = iterate(world.sft, world.reward, CASE)["all"]
    for found, _, left, _, _ in members:
        assert found["all"]["tokens"] == expected["tokens"]
        assert _near(expected["weights"], found["all"]["weights"])
        assert found["all"]["metrics"][-1]["policy/first_ratio_error"] == 0.0
        assert left["left"] == SIGTERM_CODE
    train(folders, alone)
    assert _weights(stopped).tobytes() == _weights(tmp_path / "whole").tobytes()
    assert _near(_weights(alone), _weights(stopped))


@pytest.mark.parametrize(
    ("config", "named"),
    [({"lora": LoRAConfig()}, "ppo.lora"), ({"precision": "bfloat16"}, "bfloat16")],
)
def test_what_cannot_be_spread_is_refused(
    world: Any, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], named: str
) -> None:
    monkeypatch.setattr(networks, "current_team", lambda: Team(0, 2, sharding="full"))
    with pytest.raises(ParameterError, match=f"{named}.*QUARTET_SHARDING"):
        networks.load_networks(
            world.sft, world.reward, config=PPOConfig(**config), seed=0, device="cpu"
        )


def test_heads_that_cannot_be_shared_are_refused(
    make_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(0, 1, tensor_parallel=4)
    monkeypatch.setattr(sharding, "current_team", lambda: team)
    with pytest.raises(
        ParameterError, match=r"is 4, which does not divide the 4 .* and 2 key .* of 1, 2, or"
    ):
        sharding.shard(make_network("llama"))
