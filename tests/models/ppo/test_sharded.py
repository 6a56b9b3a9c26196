"""PPO with networks that are spread over processes: what one process learns with whole ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.distributed.processes import in_team
from tests.models.ppo.members import iterate

CASE = {"all": {"ema_decay": 0.9, "ptx_coef": 0.3, "ptx_rows": 3, "iterations": 3}}


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"sharding": "full"}, {"tensor_parallel": 2}], ids=str)
def test_spread_networks_learn_the_same(world: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    members = in_team(2, iterate, world.sft, world.reward, CASE, scratch=tmp_path, **layout)
    alone = iterate(world.sft, world.reward, CASE)["all"]
    for found in (cases["all"] for cases in members):
        assert found["tokens"] == alone["tokens"]
        distance = np.linalg.norm(alone["weights"] - found["weights"])
        assert distance <= 1e-5 * np.linalg.norm(alone["weights"])
        assert [one.get("policy/first_ratio_error", 0.0) for one in found["metrics"]] == [0.0] * 3
