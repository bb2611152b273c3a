"""A connection to Postgres, with a bound on everything that waits."""

import logging
import random
import socket
import ssl

import asyncpg

from gateway.postgres.url import Address, PostgresUrl

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
"""For each of a URL's servers; `connect_timeout` in the URL replaces it."""
STATEMENT_TIMEOUT_S = 20.0
CLIENT_GRACE_S = 2.0
"""Postgres ends a statement that takes too long. When it has not answered this long after, it, or
the network, is taken for dead."""
LOCK_TIMEOUT_S = 10.0
IDLE_IN_TRANSACTION_S = 20.0
"""A gateway that freezes within a transaction keeps its locks this long."""
CLOSE_TIMEOUT_S = 1.0

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 10, 5, 3
DEAD_PEER_S = KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT
"""Both ends of a TCP connection give up a peer of which they have not heard for this long."""

DRIVER_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,  # the same, between two messages of one statement
)
"""What asyncpg raises."""
NEXT_SERVER = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""What of one server sends us to the next."""


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """asyncpg's, but nobody waits long for its end."""

    __slots__ = ()

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """End the session, and the connection in any case."""
        try:
            await super().close(timeout=min(timeout or CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S))
        except DRIVER_ERRORS as error:
            log.debug("a connection to Postgres was dropped: %r", error)

    def keep_alive(self, url: PostgresUrl) -> None:
        """Notice within DEAD_PEER_S that the server or the network is gone."""
        connected = self._transport.get_extra_info("socket")
        if connected.family == socket.AF_UNIX:
            return
        idle_s = url.number("keepalives_idle") or KEEPALIVE_IDLE_S
        interval_s = url.number("keepalives_interval") or KEEPALIVE_INTERVAL_S
        count = url.number("keepalives_count") or KEEPALIVE_COUNT
        dead_ms = url.number("tcp_user_timeout") or 1000 * DEAD_PEER_S
        wanted = url.parameters.get("keepalives") != "0"
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, wanted)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, dead_ms)


async def connect(
    url: PostgresUrl, name: str, statement_timeout_s: float | None, options: dict[str, str]
) -> Connection:
    """A connection to the first of the URL's servers that takes it. Raises one of DRIVER_ERRORS.

    It shows as `name` in Postgres, unless the URL says otherwise. `statement_timeout_s` bounds
    every statement, and None none: neither its time nor its wait for locks. `options` are Postgres
    settings of the session; those in the URL win.
    """
    session = _session(url, name, statement_timeout_s) | options
    session = {name: session[name] for name in session.keys() - url.session_options}
    addresses = list(url.addresses)
    if url.balances:
        random.shuffle(addresses)
    for address in addresses[:-1]:
        try:
            return await _connect_to(address, url, session, statement_timeout_s)
        except NEXT_SERVER as error:
            log.debug("Postgres at %s: %r", address.host, error)
    return await _connect_to(addresses[-1], url, session, statement_timeout_s)


async def _connect_to(
    address: Address, url: PostgresUrl, session: dict[str, str], statement_timeout_s: float | None
) -> Connection:
    limit_s = None if statement_timeout_s is None else statement_timeout_s + CLIENT_GRACE_S
    connection: Connection = await asyncpg.connect(
        url.asyncpg_dsn,
        host=address.host and [address.host],
        port=address.port,
        ssl=_system_certificates(url) if url.uses_system_certificates else None,
        target_session_attrs=url.parameters.get("target_session_attrs"),
        timeout=url.number("connect_timeout") or CONNECT_TIMEOUT_S,
        command_timeout=limit_s,
        server_settings=session,
        connection_class=Connection,
    )
    connection.keep_alive(url)
    return connection


def _session(url: PostgresUrl, name: str, statement_timeout_s: float | None) -> dict[str, str]:
    """The session's Postgres settings: those of the URL, and what bounds the session's waits."""
    fallback = url.parameters.get("fallback_application_name", name)
    session = {
        "application_name": url.parameters.get("application_name", fallback),
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S * 1000:.0f}",
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": str(1000 * DEAD_PEER_S),
    }
    if "options" in url.parameters:
        session["options"] = url.parameters["options"]
    if statement_timeout_s is not None:
        session["statement_timeout"] = f"{statement_timeout_s * 1000:.0f}"
        session["lock_timeout"] = f"{LOCK_TIMEOUT_S * 1000:.0f}"
    return session


def _system_certificates(url: PostgresUrl) -> ssl.SSLContext:
    """libpq's `sslrootcert=system`, which asyncpg does not know."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if certificate := url.parameters.get("sslcert"):
        password = url.parameters.get("sslpassword", "")
        context.load_cert_chain(certificate, url.parameters.get("sslkey"), lambda: password)
    return context
