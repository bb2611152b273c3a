"""TCP ports on this machine."""

import socket

from niyama.local.errors import LocalStackError

LOOPBACK = "127.0.0.1"


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def choose_port(port: int, *, purpose: str, setting: str, host: str = LOOPBACK) -> int:
    """``port`` itself if it can be bound, any free one for 0.

    Raises LocalStackError naming the port and the ``setting`` that chooses another.
    """
    if port == 0:
        return free_port(host)
    with socket.socket() as probe:
        # What servers do: a port whose last connections linger is free all the same.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LocalStackError(
                f"{purpose} cannot use port {port} on {host} ({error.strerror}). "
                f"Stop what uses it, or choose another with {setting}; 0 takes a free one."
            ) from error
    return port
