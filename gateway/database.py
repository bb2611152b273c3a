"""The ledger's Postgres: connections to it, and what its errors mean."""

import logging
import ssl
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import asyncpg
from sqlalchemy import Executable, Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.postgres import connection
from gateway.postgres.connection import DRIVER_ERRORS, STATEMENT_TIMEOUT_S
from gateway.settings import DatabaseSettings
from niyama.errors import ConfigurationError
from niyama.retry import retry

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 10.0
"""For a query of the API, and for its wait for a connection of the pool."""

UNREACHABLE = (*DRIVER_ERRORS, DBAPIError, PoolTimeoutError)
"""What a statement raises when Postgres is unreachable, or cannot do now what it is asked for.

Those of Postgres itself, and SQLAlchemy's form of them, may also be about the statement or its
rows: see `is_outage`.
"""

OUTAGE_STATES = (
    "08",  # connection exception
    "25006",  # read-only: a standby, or a server whose disk is nearly full
    *("25P03", "25P04"),  # a transaction that was idle, or open, for too long
    *("28", "3D"),  # credentials that are being changed, or a database that is being restored
    "40",  # a deadlock
    "53",  # disk full, out of memory, too many connections
    "55",  # locked, or in use
    *("57", "58"),  # starting, stopping, cancelled by a timeout; errors of the disk
    *("F0", "XX"),  # Postgres's own errors
)
"""How the SQLSTATEs of errors begin that go away by themselves, or when an operator acts."""
REFUSED_STATES = ("21", "22", "23", "54")
"""How the SQLSTATEs of errors begin whose fault is in the rows."""


class AdvisoryLock(IntEnum):
    """Keys of Postgres advisory locks: numbers that no other program is likely to lock."""

    MIGRATION = 0x6E69_7962
    """One migration at a time, of all processes."""
    PARTITIONS = 0x6E69_7061
    """One process at a time makes a partition of `job_events`."""


def is_outage(error: BaseException) -> bool:
    """Whether one of UNREACHABLE goes away without a change to the statement and its rows."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        # The cause of the adapter's error, which SQLAlchemy wraps, is asyncpg's.
        cause = getattr(error.orig, "__cause__", None)
        return cause is not None and is_outage(cause)
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(OUTAGE_STATES)
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return False  # a value that asyncpg cannot encode, or options that it does not take
    return isinstance(error, UNREACHABLE)


def is_refusal(error: BaseException) -> bool:
    """Whether Postgres refuses the rows that it was given."""
    sqlstate = error.sqlstate if isinstance(error, asyncpg.PostgresError) else None
    return (sqlstate or "").startswith(REFUSED_STATES)


async def connect(
    settings: DatabaseSettings,
    purpose: str,
    *,
    statement_timeout_s: float | None = STATEMENT_TIMEOUT_S,
    **options: str,
) -> connection.Connection:
    """One connection outside the pool. Raises one of UNREACHABLE.

    `statement_timeout_s` bounds every statement, and None none: neither its time nor its wait for
    locks. `options` are Postgres settings of its session.
    """
    name = f"niyama-{purpose}"
    return await connection.connect(settings.postgres, name, statement_timeout_s, options)


def engine(settings: DatabaseSettings, connections: int) -> AsyncEngine:
    """A pool of at most `connections`, for `read`. Connects when first used."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(settings, "gateway", statement_timeout_s=READ_TIMEOUT_S),
        isolation_level="AUTOCOMMIT",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=READ_TIMEOUT_S,
    )


def engine_of_one_use(settings: DatabaseSettings) -> AsyncEngine:
    """For migrations: nothing is pooled, and statements may take as long as they need."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(settings, "migrate", statement_timeout_s=None),
        poolclass=NullPool,
    )


async def read(
    database: AsyncEngine, query: Executable, values: Mapping[str, object] | None = None
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The rows of `query`, in one round trip: no transaction around it, and no ping before it.

    `values` are those of its `bindparam`s. Raises one of UNREACHABLE.
    """
    try:
        return await _read_once(database, query, values)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        # Postgres was restarted since: every pooled connection is dead, a new one is not.
        return await _read_once(database, query, values)


async def _read_once(
    database: AsyncEngine, query: Executable, values: Mapping[str, object] | None
) -> Sequence[Row[*tuple[Any, ...]]]:
    async with database.connect() as pooled:
        try:
            rows: Sequence[Row[*tuple[Any, ...]]] = (await pooled.execute(query, values)).all()
        except TimeoutError:
            await pooled.invalidate()  # Postgres may still be at it, or have silently gone
            raise
    return rows


async def answers(database: AsyncEngine) -> bool:
    """Whether Postgres answers now."""
    try:
        await read(database, text("SELECT 1"))
    except UNREACHABLE:
        return False
    return True


async def wait_for_postgres(settings: DatabaseSettings) -> None:
    """Return once the database answers; until then log a notice now and then.

    Raises ConfigurationError for what waiting does not cure: a wrong password or database name, a
    certificate that nobody vouches for.
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
        asyncpg.ClientConfigurationError,
        asyncpg.UndefinedObjectError,  # a setting in the URL that Postgres does not know
        ssl.SSLCertVerificationError,
    ) as error:
        raise ConfigurationError(
            f"Postgres at {settings.shown_database_url} refuses: {error}. "
            "Correct --database-url (NIYAMA_DATABASE_URL), or create the role and the database"
        ) from error
    await connection.close()
