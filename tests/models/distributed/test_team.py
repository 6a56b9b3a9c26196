"""What members of a team tell each other."""

import os
import signal
from pathlib import Path
from typing import Any

import torch

from models.distributed.interruption import Interruption
from models.distributed.team import Team, current_team
from tests.models.distributed.processes import in_team
from tests.models.ppo.members import several


def told() -> dict[str, Any]:
    team = current_team()
    mine = torch.tensor([1.0, 2.0]) * (team.rank + 1)
    result = {
        "total": team.total(mine).tolist(),
        "greatest": team.greatest(mine).tolist(),
        "kept": mine.tolist(),
        "gather": team.gather({"rank": team.rank}),
        "any": team.agree(team.rank == 1),
        "none": team.agree(False),
        "share": list(team.share(range(5))),
        "joined": team.join([f"{unit} by {team.rank}" for unit in team.share(range(5))]),
        "nothing": team.join([]),
        "leads": team.leads,
    }
    team.wait()
    return result


def left_after(struck: int) -> int:
    """Take three steps; a signal strikes the last member within the `struck`-th agreement, from 1.

    Returns:
        After how many steps this member left; 0 if it did not.
    """
    team, agreed, steps, agreements = current_team(), Team.greatest, 0, 0

    def strike(self: Team, values: torch.Tensor) -> torch.Tensor:
        nonlocal agreements
        found = agreed(self, values)
        agreements += 1
        if agreements == struck and team.rank == team.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    Team.greatest = strike  # type: ignore[method-assign]
    try:
        with Interruption() as interruption:
            for _ in range(3):
                with interruption.held():
                    steps += 1
    except SystemExit:
        return steps
    finally:
        Team.greatest = agreed  # type: ignore[method-assign]
    return 0


def test_a_signal_that_comes_while_members_agree_is_not_lost(tmp_path: Path) -> None:
    calls = [(left_after, strike) for strike in (1, 3, 4)]
    assert in_team(2, several, *calls, scratch=tmp_path) == [[2, 3, 0], [2, 3, 3]]


def test_members_hear_the_same(tmp_path: Path) -> None:
    first, second, third = in_team(3, told, scratch=tmp_path)
    for one in (first, second, third):
        assert one["total"] == [6.0, 12.0]
        assert one["greatest"] == [3.0, 6.0]
        assert one["gather"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
        assert one["joined"] == ["0 by 0", "1 by 1", "2 by 2", "3 by 0", "4 by 1"]
        assert one["nothing"] == []
        assert (one["any"], one["none"]) == (True, False)
    assert [one["kept"] for one in (first, second, third)] == [[1, 2], [2, 4], [3, 6]]
    assert [one["share"] for one in (first, second, third)] == [[0, 3], [1, 4], [2]]
    assert [one["leads"] for one in (first, second, third)] == [True, False, False]


def test_one_process_is_a_team() -> None:
    values = torch.ones(2)
    team = current_team()
    assert team == Team(0, 1)
    assert list(team.share("abc")) == team.join("abc") == ["a", "b", "c"]
    assert team.total(values) is values
    assert team.greatest(values) is values
    assert team.gather("x") == ["x"]
    assert (team.agree(True), team.agree(False)) == (True, False)
