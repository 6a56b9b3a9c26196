"""Several hosts on one machine: network namespaces with names and cables of their own.

One holds the servers; nothing is shared but what goes through the cables, and those can be cut.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.flows.operated import QUARTET, READY_SECONDS, Operation, until
from tests.ports import free_ports

FORWARD = """
import asyncio, sys

async def pass_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def main(address, *ports):
    async def joined(port, reader, writer):
        inner = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, inner[1]), pass_on(inner[0], writer))
    for port in map(int, ports):
        await asyncio.start_server(lambda r, w, p=port: joined(p, r, w), address, port)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
"""What a proxy does for servers that listen on loopback: `main(address, port, ...)`."""


def hosts_possible() -> str:
    """Why there can be no hosts here; empty if there can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "there is no ip or unshare (packages iproute2, util-linux)"
    name = f"quartet-try-{os.getpid()}"  # other workers try at the same time
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this system allows no network namespaces"


@dataclass(slots=True)
class Network:
    """Hosts on one switch, which this process is plugged into as well."""

    number: int = field(default_factory=lambda: os.getpid() % 250 + 1)
    hosts: list[str] = field(default_factory=list)

    def address(self, host: str) -> str:
        """The address of a host."""
        return f"10.213.{self.number}.{self.hosts.index(host) + 1}"

    def add(self, host: str) -> None:
        """Add a host; the first one holds the switch."""
        self.hosts.append(host)
        _ip(f"netns add {self._space(host)}")
        self._inside(host, "link set lo up")
        if len(self.hosts) == 1:
            self._inside(host, "link add switch type bridge", "link set switch up")
            self._inside(host, f"address add {self.address(host)}/24 dev switch")
            self._plug("tester", f"10.213.{self.number}.254", None)
        else:
            self._plug(host, self.address(host), self._space(host))

    def cut(self, host: str) -> None:
        """Cut the cable of a host."""
        self._inside(self.hosts[0], f"link set {_end(host)} down")

    def mend(self, host: str) -> None:
        """Mend it."""
        self._inside(self.hosts[0], f"link set {_end(host)} up")

    def command(self, host: str, *words: str) -> list[str]:
        """A command that runs on a host, under its name."""
        inner = ["sh", "-c", 'hostname "$0"; exec "$@"', host, *words]
        return ["ip", "netns", "exec", self._space(host), "unshare", "--uts", *inner]

    def close(self) -> None:
        """Remove the hosts; their processes must have ended."""
        for host in self.hosts:
            subprocess.run(
                ["ip", "netns", "delete", self._space(host)], capture_output=True, check=False
            )

    def _plug(self, name: str, address: str, space: str | None) -> None:
        """Lay a cable from the switch to a host, or to this process."""
        own = f"q{self.number}{name}"[:15]
        _ip(f"link add {own} type veth peer name {_end(name)} netns {self._space(self.hosts[0])}")
        self._inside(self.hosts[0], f"link set {_end(name)} master switch up")
        if space is not None:
            _ip(f"link set {own} netns {space}")
        inside = ["-n", space] if space else []
        _ip(*inside, f"address add {address}/24 dev {own}")
        _ip(*inside, f"link set {own} up")

    def _inside(self, host: str, *commands: str) -> None:
        for command in commands:
            _ip("-n", self._space(host), command)

    def _space(self, host: str) -> str:
        return f"quartet{self.number}-{host}"


def _end(host: str) -> str:
    return f"to-{host}"[:15]


def _ip(*words: str) -> None:
    command = ["ip", *(part for word in words for part in word.split())]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, f"{' '.join(command)}: {tried.stderr}"


@contextmanager
def network() -> Iterator[Network]:
    """A network without hosts yet."""
    made = Network()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def up_on(
    made: Network, host: str, home: Path, *words: str, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run `quartet up` on a host until the block ends."""
    log = home / "up.log"
    with started_on(made, host, home, log, "up", *words, environment=environment) as process:
        until(
            lambda: "Ready after" in log.read_text() or process.poll() is not None,
            READY_SECONDS, f"`quartet up` on {host}",
        )  # fmt: skip
        assert process.poll() is None, log.read_text()
        yield process


@contextmanager
def started_on(
    made: Network, host: str, home: Path, log: Path, *words: str, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a command of Quartet's on a host, no longer than the block, which may wait for it."""
    home.mkdir(parents=True, exist_ok=True)
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "QUARTET_HOME": str(home),
        "QUARTET_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    with log.open("w") as file:
        process = subprocess.Popen(
            made.command(host, *QUARTET, *words),
            stdout=file, stderr=subprocess.STDOUT, env=given, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


@contextmanager
def servers_on(made: Network, host: str, home: Path) -> Iterator[Operation]:
    """Both servers on a host, reachable for the others."""
    ports = free_ports(2)
    words = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]), "--no-worker"]
    address = made.address(host)
    known = {"MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{ports[1]},{address}:{ports[1]}"}
    with up_on(made, host, home, *words, environment=known) as process:
        forward = [sys.executable, "-c", FORWARD, address, *map(str, ports)]
        proxy = subprocess.Popen(made.command(host, *forward), start_new_session=True)
        try:
            yield Operation(
                process=process,
                home=home,
                api=f"http://{address}:{ports[0]}/api",
                mlflow_uri=f"http://{address}:{ports[1]}",
                log=home / "up.log",
            )
        finally:
            proxy.terminate()
            proxy.wait(timeout=10)
