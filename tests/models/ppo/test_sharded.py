"""PPO with networks that are spread over processes: what one process learns with whole ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.distributed.processes import in_team
from tests.models.ppo.members import iterate, several, train

CASE = {"all": {"ema_decay": 0.9, "ptx_coef": 0.3, "ptx_rows": 3, "iterations": 3}}


@pytest.mark.parametrize("layout", [{"sharding": "full"}, {"tensor_parallel": 2}], ids=str)
def test_spread_networks_learn_the_same(
    world: Any, tmp_path: Path, layout: dict[str, Any]
) -> None:
    call = (iterate, world.sft, world.reward, CASE)
    members = in_team(2, several, call, scratch=tmp_path, **layout)
    alone = iterate(world.sft, world.reward, CASE)["all"]
    for found in (calls[0]["all"] for calls in members):
        print([m.get("policy/first_ratio_error") for m in found["metrics"]], [m["objective/sampler_error"] for m in found["metrics"]])
        print(np.linalg.norm(alone["weights"] - found["weights"]) / np.linalg.norm(alone["weights"]))
        assert found["tokens"] == alone["tokens"]
