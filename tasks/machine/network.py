"""Addresses, ports and interfaces of this host, as far as hosts need them to meet."""

import contextlib
import fcntl
import socket
import struct
import sys
from collections.abc import Iterator

from models.errors import ParameterError

SIOCGIFADDR = 0x8915
"""Asks Linux for an interface's address."""


def parted(address: str) -> tuple[str, int]:
    """Host and port of an address."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def own_address(address: str) -> str:
    """This host's IP address on the way to another one.

    Raises:
        ParameterError: There is no such host, or no way.
    """
    with explained(address), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect(parted(address))
        return str(way.getsockname()[0])


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Say in a sentence why nobody can meet at an address."""
    try:
        yield
    except OSError as error:
        raise ParameterError(
            f"hosts cannot meet at {address} ({error}); wanted HOST:PORT of the first host, as set "
            "there in QUARTET_RENDEZVOUS, with a port that is free"
        ) from error


def free_port(address: str) -> int:
    """A port of this host's that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.bind((address, 0))
        return int(tried.getsockname()[1])


def interface_of(address: str) -> str:
    """The network interface that has an address of this host; empty where no system call tells.

    gloo and NCCL would look up the host's name otherwise, which may be unknown or mean loopback.
    """
    if sys.platform != "linux":
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                found = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return ""
