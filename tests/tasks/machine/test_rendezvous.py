"""Hosts meet at an address: they come, get ready, give signs of life, and leave."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import ParameterError, TeamError
from tasks.machine import hosts, rendezvous
from tasks.machine.hosts import Offer, gathered_hosts
from tasks.machine.network import free_port, interface_of, own_address
from tasks.machine.rendezvous import Rendezvous, Visit

LOOPBACK = "127.0.0.1"


@pytest.fixture
def address() -> str:
    return f"{LOOPBACK}:{free_port(LOOPBACK)}"


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    folder = tmp_path / "first"
    (folder / "checkpoint-4").mkdir(parents=True)
    (folder / "checkpoint-4" / "state.pt").write_bytes(b"weights")
    return folder


@pytest.fixture
def meeting(address: str, checkpoints: Path) -> Iterator[Rendezvous]:
    with Rendezvous(address, nodes=2, offer={"stage": "ppo"}, checkpoints=checkpoints) as made:
        yield made


def eventually(visit: Visit, order: str) -> None:
    end = time.monotonic() + 20
    while visit.order != order:
        assert time.monotonic() < end, visit.order
        time.sleep(0.02)


def test_a_host_comes_learns_and_leaves(
    meeting: Rendezvous, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "SIGN_SECONDS", 0.05)
    visit = Visit(address, "beta")
    assert visit.come() == {"stage": "ppo"}
    assert visit.node == 1
    assert Visit(address, "gamma").come() is None, "there is no place for a third"
    with visit.signs():
        assert not meeting.complete
        visit.ready()
        while not meeting.complete:
            time.sleep(0.02)
        meeting.start()
        eventually(visit, "start")
        assert not visit.over
    visit.leave({"failures": [1]})
    (guest,) = meeting.end(done=True)
    assert (guest.host, guest.told) == ("beta", {"failures": [1]})
    assert Visit(address, "beta").come() is None, "this meeting is over"


def test_checkpoints_are_the_first_hosts(meeting: Rendezvous, address: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for name in ("checkpoint-4", "checkpoint-6"):
        (own / name).mkdir(parents=True)
        (own / name / "state.pt").write_bytes(b"something else")
    (own / "checkpoint-4" / "rng_state_1.pth").write_bytes(b"this host's own")
    Visit(address, "beta").fetch_checkpoints(own)
    assert {str(one.relative_to(own)) for one in own.rglob("*") if one.is_file()} == {
        "checkpoint-4/state.pt",
        "checkpoint-4/rng_state_1.pth",
    }
    assert (own / "checkpoint-4" / "state.pt").read_bytes() == b"weights"


def test_checkpoints_that_break_off_are_an_error_of_the_connection(
    meeting: Rendezvous, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rendezvous, "pack", lambda _, file: file.write(b"half of an archive"))
    with pytest.raises(ConnectionError, match=r"broke off .* fetches them again"):
        Visit(address, "beta").fetch_checkpoints(tmp_path / "own")


def test_a_silent_host_is_lost_and_gives_up_itself(
    meeting: Rendezvous, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "SILENT_SECONDS", 0.2)
    visit = Visit(address, "beta")
    visit.come()
    meeting.start()
    time.sleep(0.3)
    (guest,) = meeting.guests
    assert guest.silent
    assert visit.over


def test_a_host_that_left_long_before_the_others_ends_them(
    address: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gathered_hosts(address, offer(), checkpoints, print) as team:
        visit = Visit(address, "beta")
        visit.come()
        visit.leave({})
        assert not team.fewer, "the others may be about to leave"
        monkeypatch.setattr(rendezvous, "LEAVE_SECONDS", 0.0)
        assert team.fewer
        assert not team.lost


def test_who_is_lost_before_the_start_makes_place(
    meeting: Rendezvous, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Visit(address, "beta").come()
    monkeypatch.setattr(rendezvous, "SILENT_SECONDS", 0.0)
    assert meeting.guests == []
    assert Visit(address, "gamma").come() == {"stage": "ppo"}


def offer(nodes: int = 2) -> Offer:
    return Offer(
        spec={}, stage="ppo", digest="d", store="s", cache="c", code="x", libraries={},
        processes=1, nodes=nodes,
    )  # fmt: skip


def test_the_first_host_waits_and_says_for_whom(
    address: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(hosts, "WAIT_SECONDS", 1.0)
    said: list[str] = []
    with (
        gathered_hosts(address, offer(), checkpoints, said.append) as team,
        pytest.raises(TeamError, match="in vain for 1 more of 2 hosts"),
    ):
        team.wait()
    assert said == [f"waiting for 1 more of 2 hosts; there, run `quartet join {address}`"]


def test_a_host_that_cannot_take_part_says_why(address: str, checkpoints: Path) -> None:
    with gathered_hosts(address, offer(), checkpoints, print) as team:
        visit = Visit(address, "beta")
        assert visit.come() is not None
        visit.leave({"trouble": "its code is another"})
        with pytest.raises(TeamError, match="host beta cannot take part: its code is another"):
            team.wait()


def test_one_host_meets_nobody(tmp_path: Path) -> None:
    with gathered_hosts("", offer(nodes=1), tmp_path, print) as team:
        team.wait()
        assert team.node is None
        assert not team.lost
        assert not team.fewer
        team.end(tmp_path, done=True)


def test_an_address_where_nobody_can_meet_is_refused(address: str, tmp_path: Path) -> None:
    with (
        gathered_hosts(address, offer(), tmp_path, print),
        pytest.raises(ParameterError, match=r"hosts cannot meet at .*port that is free"),
        gathered_hosts(address, offer(), tmp_path, print),
    ):
        pass
    with pytest.raises(ParameterError, match=r"hosts cannot meet at no\.such\.host"):
        own_address("no.such.host.invalid:1")


def test_the_interface_of_an_address_is_known() -> None:
    assert interface_of(LOOPBACK) == "lo"
    assert interface_of("203.0.113.7") == ""
