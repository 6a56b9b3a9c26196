"""Other hosts that learn with this one: waited for, watched, and their reports kept."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import TeamError
from tasks.machine.network import free_port, interface_of, own_address
from tasks.machine.rendezvous import Rendezvous
from tasks.machine.teams import Node, take_report

WAIT_SECONDS = 600.0
"""For hosts to come and to fetch what they lack; then the stage fails, and a retry waits again."""
PATIENCE_SECONDS, SAY_SECONDS = 3.0, 30.0
"""Until a first line tells of waiting, and between the others."""
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What another host needs to take part.

    Attributes:
        spec: What each process does (`models/distributed/worker.py`).
        stage: Name of the stage that learns; `digest` is its own.
        store: The first host's folder of results, below which paths of the spec lie.
        cache: Its folder of what can be made again.
        code: Digest of the code that learns.
        libraries: Versions that decide numbers.
        processes: On each host.
        nodes: How many hosts.
        leader: Address and port of the first host where all processes meet.
    """

    spec: Mapping[str, Any]
    stage: str
    digest: str
    store: str
    cache: str
    code: str
    libraries: Mapping[str, str]
    processes: int
    nodes: int
    leader: tuple[str, int] = ("", 0)


class Hosts:
    """The hosts of a team, as the first one sees them; this one alone where nobody is to come."""

    def __init__(self, meeting: Rendezvous | None, nodes: int, say: Callable[[str], None]) -> None:
        """Start with this host.

        Args:
            meeting: Where others come.
            nodes: How many hosts there are to be.
            say: Takes what a person wants to know.
        """
        self._meeting, self._nodes, self._say = meeting, nodes, say
        self.node: Node | None = None
        self.interface = "lo" if sys.platform == "linux" else ""

    def wait(self) -> None:
        """Wait until all are ready, and tell them to start.

        Raises:
            TeamError: They did not come in time, or one cannot take part.
        """
        if self._meeting is None or self.node is None:
            return
        start = time.monotonic()
        due = start + PATIENCE_SECONDS
        while not self._meeting.complete:
            guests = self._meeting.guests
            for guest in guests:
                if guest.state == "left":
                    trouble = guest.told.get("trouble", "it was told to stop")
                    raise TeamError(f"host {guest.host} cannot take part: {trouble}")
            missing, now = self._nodes - 1 - len(guests), time.monotonic()
            awaited = f"{missing} more of {self._nodes} hosts; there, run `quartet join "
            awaited += f"{self._meeting.address}`"
            if not missing:
                awaited = "hosts that fetch what they lack"
            if now - start > WAIT_SECONDS:
                raise TeamError(f"waited {WAIT_SECONDS / 60:g} minutes in vain for {awaited}")
            if now > due:
                due = now + SAY_SECONDS
                self._say(f"waiting for {awaited}")
            time.sleep(POLL_SECONDS)
        self._meeting.start()

    @property
    def lost(self) -> str:
        """A host that gives no sign of life; empty if there is none."""
        if self._meeting is None:
            return ""
        return next((one.host for one in self._meeting.guests if one.silent), "")

    @property
    def fewer(self) -> bool:
        """Whether a host is lost, or left while others learn: nobody can go on."""
        guests = self._meeting.guests if self._meeting else []
        return any(one.silent or one.gone for one in guests)

    def end(self, folder: Path, *, done: bool) -> None:
        """Let all leave, and keep what they tell of their processes in the team's folder."""
        for guest in self._meeting.end(done=done) if self._meeting else []:
            take_report(folder, f"{guest.host}-{guest.node}", guest.told)


@contextlib.contextmanager
def gathered_hosts(
    address: str, offer: Offer, checkpoints: Path, say: Callable[[str], None]
) -> Iterator[Hosts]:
    """Open a rendezvous for as many hosts as learn together; with one host there is none.

    Args:
        address: `HOST:PORT` of this host.
        checkpoints: Folder of which the others get a copy.
        say: Takes what a person wants to know.

    Raises:
        ParameterError: Nobody can meet there.
    """
    if offer.nodes == 1:
        yield Hosts(None, 1, say)
        return
    own = own_address(address)
    offer = replace(offer, leader=(own, free_port(own)))
    nodes, offered = offer.nodes, asdict(offer)
    with Rendezvous(address, nodes=nodes, offer=offered, checkpoints=checkpoints) as meeting:
        hosts = Hosts(meeting, nodes, say)
        hosts.node = Node(number=0, of=nodes, address=own, leader=offer.leader)
        hosts.interface = interface_of(own)
        yield hosts
