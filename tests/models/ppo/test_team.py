"""PPO in several processes: the same samples, the same weights, the same decisions as in one."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.ppo.session import INTERRUPTED
from tests.models.distributed.processes import in_team
from tests.models.ppo.members import folders_of, iterate, several, train, weights_of

DECIDES = {"kl_target": 0.5, "kl_horizon": 100, "max_approx_kl": 0.01}
MIXES = {"ema_decay": 0.9, "ptx_coef": 0.3, "ptx_rows": 3}
FEW = {"rollouts_per_iteration": 2, "rollouts_per_minibatch": 2, "iterations": 3}
GROUPS = {"advantages": "grpo", "group_size": 4, "iterations": 4}
CASES: dict[str, dict[str, Any]] = {
    "kl target and early stop": DECIDES,
    "moving average and pretraining mix": MIXES,
    "lora": {"lora": {"rank": 4, "alpha": 8.0}},
    "fewer rows than members": FEW,
    "grpo": GROUPS | {"lora": {"rank": 4, "alpha": 8.0}},
    "entropy of whole completions": {"entropy_coef": 0.05, "learn_from_cut": False},
}
SIGTERM_CODE = 143


def _timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "time/" not in name}


def _same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        one["tokens"] == other["tokens"]
        and one["weights"].tobytes() == other["weights"].tobytes()
        and list(map(_timeless, one["metrics"])) == list(map(_timeless, other["metrics"]))
    )


def _check_equal(alone: Mapping[str, Any], members: list[Mapping[str, Any]]) -> None:
    first = members[0]
    assert all(_same_bits(first, other) for other in members[1:])
    pairs = list(zip(alone["tokens"], first["tokens"], strict=True))
    assert sum(one == other for one, other in pairs) >= 0.99 * len(pairs)
    distance = np.linalg.norm(alone["weights"] - first["weights"])
    assert distance <= 1e-5 * np.linalg.norm(alone["weights"])
    for one, other in zip(alone["metrics"], first["metrics"], strict=True):
        assert other.get("policy/first_ratio_error", 0.0) == 0.0
        assert other.get("policy/early_stop") == one.get("policy/early_stop")
        assert other["objective/kl_coef"] == pytest.approx(one["objective/kl_coef"], rel=1e-4)
        losses = [metrics.get("value/loss", 0.0) for metrics in (one, other)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def _files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_two_learn_what_one_learns_and_leave_and_resume_together(
    world: Any, tmp_path: Path
) -> None:
    case = {"all": DECIDES | MIXES | {"iterations": 4}, "groups": GROUPS | {"advantages": "rloo"}}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    members = in_team(
        2,
        several,
        (iterate, world.sft, world.reward, case),
        (train, folders_of(world), whole),
        (train, folders_of(world), stopped, 7),
        (train, folders_of(world), stopped),
        scratch=tmp_path,
    )
    alone = iterate(world.sft, world.reward, case)
    stops = [one.get("policy/early_stop", 0.0) for one in alone["all"]["metrics"]]
    assert 0 < sum(stops) < 3
    for name, found in alone.items():
        _check_equal(found, [calls[0][name] for calls in members])
    assert [calls[2]["left"] for calls in members] == [SIGTERM_CODE, SIGTERM_CODE]
    assert [calls[2]["steps"] for calls in members] == [7, 7]  # after the same step
    assert [calls[3]["left"] for calls in members] == [None, None]
    assert not members[1][1]["logged"]  # the first member writes
    logged = members[0][2]["logged"] | members[0][3]["logged"]
    assert {n: _timeless(one) for n, one in logged.items()} == {
        n: _timeless(one) for n, one in members[0][1]["logged"].items()
    }
    assert _files(whole / "out") == _files(stopped / "out")


@pytest.mark.campaign
def test_any_number_of_processes(world: Any, tmp_path: Path) -> None:
    """Three are as one, with each option; a checkpoint of two is resumed by one and by three."""
    folder, folders = tmp_path / "two", folders_of(world)
    calls = (iterate, world.sft, world.reward, CASES)
    again = (iterate, world.sft, world.reward, dict(list(CASES.items())[:1]))
    twos = in_team(2, several, calls, again, (train, folders, folder, 5), scratch=tmp_path)
    saved = torch.load(folder / "checkpoints" / INTERRUPTED / "state.pt", weights_only=True)
    for number in "13":
        shutil.copytree(folder, tmp_path / number)
    threes = in_team(3, several, calls, (train, folders, tmp_path / "3"), scratch=tmp_path)
    alone = several(calls, (train, folders, tmp_path / "1"))
    for name in CASES:
        _check_equal(alone[0][name], [two[0][name] for two in twos])
        _check_equal(alone[0][name], [three[0][name] for three in threes])
    for two in twos:
        assert all(_same_bits(two[0][name], two[1][name]) for name in two[1])
    assert saved["finished_iterations"] == 1
    ends = []
    for run in (alone[1], *(three[1] for three in threes)):
        assert [one.tobytes() for one in run["loaded"]] == [weights_of(saved).tobytes()]
        ends.append(run["logged"])
    for number, metrics in ends[0].items():
        other = ends[1][number]["ppo/objective/kl_to_reference"]
        assert metrics["ppo/objective/kl_to_reference"] == pytest.approx(other, rel=1e-4)
    assert set(ends[0]) == {2, 3, 4}
