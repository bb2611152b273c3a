"""Connections to the ledger's Postgres."""

import asyncio
import logging
from enum import IntEnum

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.settings import DatabaseSettings
from niyama.errors import ConfigurationError
from niyama.retry import retry

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0

_OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,  # starting, or shutting down
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,  # the same, between two messages of one statement
)
UNREACHABLE = (
    *_OUTAGES,
    DBAPIError,  # SQLAlchemy's form of the above, and of errors in statements: see is_outage
    PoolTimeoutError,
)
"""What a statement raises when Postgres is unreachable, or went away."""


class AdvisoryLock(IntEnum):
    """Keys of Postgres advisory locks: numbers that no other program is likely to lock."""

    MIGRATION = 0x6E69_7962
    """One migration at a time, of all processes."""
    PARTITIONS = 0x6E69_7061
    """One process at a time makes a partition of `job_events`."""
    REPLIES = 0x6E69_6963
    """One gateway at a time is the relay of replies."""


def is_outage(error: DBAPIError) -> bool:
    """Whether SQLAlchemy's `error` is about the connection, not about the statement."""
    if error.connection_invalidated or isinstance(error, (InterfaceError, OperationalError)):
        return True
    # SQLAlchemy has no class of its own for most of asyncpg's; they are the cause of what it wraps.
    return isinstance(getattr(error.orig, "__cause__", None), _OUTAGES)


def engine(settings: DatabaseSettings, connections: int) -> AsyncEngine:
    """A pool of at most `connections`, for reading. Connects when first used.

    A statement is one round trip: no transaction around it, and no ping before it. Readers try
    again when a pooled connection proves dead, see `queries.Ledger`.
    """
    return create_async_engine(
        settings.database_url,
        isolation_level="AUTOCOMMIT",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "server_settings": {"application_name": "niyama-gateway"},
        },
    )


async def connect(settings: DatabaseSettings, purpose: str, **options: str) -> asyncpg.Connection:
    """One connection outside the pool, for a task that keeps it.

    `options` are Postgres settings of its session. Raises one of UNREACHABLE.
    """
    return await asyncpg.connect(
        settings.database_url.replace("+asyncpg", "", 1),
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings={"application_name": f"niyama-{purpose}", **options},
    )


async def wait_for_postgres(settings: DatabaseSettings) -> None:
    """Return once the database answers; until then log a notice now and then.

    Raises ConfigurationError for what waiting does not cure: a wrong password or database name.
    """
    await retry(
        lambda: _probe(settings),
        *UNREACHABLE,
        notice=f"waiting for Postgres at {settings.shown_database_url} (NIYAMA_DATABASE_URL)",
        log=log,
    )


async def _probe(settings: DatabaseSettings) -> None:
    try:
        connection = await connect(settings, "probe")
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
    ) as error:
        raise ConfigurationError(
            f"Postgres at {settings.shown_database_url} refuses: {error}. "
            "Correct --database-url (NIYAMA_DATABASE_URL), or create the role and the database"
        ) from error
    await connection.close()


async def answers(database: AsyncEngine) -> bool:
    """Whether Postgres answers now."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S), database.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except UNREACHABLE:
        return False
    return True
