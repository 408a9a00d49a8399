"""Ports for servers of tests."""

import random
import socket
from typing import Final

PORTS: Final = (12_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now.

    From below those that the operating system gives to clients, so that none is taken before its server is up; drawn
    at random, so that clusters made at the same time seldom draw the same.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(*PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in ports:
            ports.append(port)
    return ports
