"""Ports that no other test, and no program beside the tests, is given meanwhile."""

import socket

_held: list[socket.socket] = []
"""Bound until the tests end; servers bind the same port beside, as all of them reuse addresses."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens."""
    ports = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        ports.append(int(one.getsockname()[1]))
        _held.append(one)
    return ports


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]
