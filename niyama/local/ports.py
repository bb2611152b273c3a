"""TCP ports on this machine."""

import random
import socket

from niyama.local.errors import LocalStackError

LOOPBACK = "127.0.0.1"

FREE_PORTS = range(20_000, 32_000)
"""Below the ports that systems give to clients: while a server is away, none takes its port."""


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on now. Raises LocalStackError when none is found."""
    for port in random.sample(FREE_PORTS, 200):
        if _refusal(host, port) is None:
            return port
    raise LocalStackError(f"found no free port on {host} in {FREE_PORTS}")


def choose_port(port: int, *, purpose: str, setting: str, host: str = LOOPBACK) -> int:
    """`port` itself if it can be bound, any free one for 0.

    Raises LocalStackError naming the port and the `setting` that chooses another.
    """
    if port == 0:
        return free_port(host)
    if refusal := _refusal(host, port):
        raise LocalStackError(
            f"{purpose} cannot use port {port} on {host} ({refusal}). "
            f"Stop what uses it, or choose another with {setting}; 0 takes a free one."
        )
    return port


def _refusal(host: str, port: int) -> str | None:
    """Why `port` cannot be bound; None when it can."""
    with socket.socket() as probe:
        # As servers do: a port is free even while connections to its last server linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
