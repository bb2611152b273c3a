"""What errors of Postgres mean: an outage, rows that it refuses, or a statement that is wrong."""

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from gateway.database import UNREACHABLE, is_outage, is_refusal


def through_sqlalchemy(error: Exception) -> DBAPIError:
    """As SQLAlchemy raises it: its adapter's error, whose cause is asyncpg's."""
    adapted = Exception(str(error))
    adapted.__cause__ = error
    return DBAPIError("SELECT 1", {}, adapted)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.OutOfMemoryError("out of memory"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection"),
        asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.PostgresIOError("could not fsync file"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.InternalServerError("could not read block"),
        asyncpg.InternalClientError("the connection ended between two messages"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError("reset"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_by_itself_is_an_outage(error: Exception) -> None:
    assert isinstance(error, UNREACHABLE)
    assert is_outage(error)
    assert is_outage(through_sqlalchemy(error))
    assert not is_refusal(error)


def test_a_pool_without_a_free_connection_is_an_outage() -> None:
    assert is_outage(PoolTimeoutError())


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CharacterNotInRepertoireError("invalid byte sequence"),
        asyncpg.NotNullViolationError("null value in column"),
        asyncpg.CheckViolationError("no partition of relation found for row"),
        asyncpg.StatementTooComplexError("stack depth limit exceeded"),
        asyncpg.CardinalityViolationError("cannot affect row a second time"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_some_errors_are_the_rows_own(error: Exception) -> None:
    assert is_refusal(error)
    assert not is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UndefinedColumnError("no such column"),
        asyncpg.InFailedSQLTransactionError("current transaction is aborted"),
        asyncpg.InsufficientPrivilegeError("permission denied"),
        asyncpg.exceptions._base.DataError("invalid input for query argument $1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_wrong_statement_is_neither(error: Exception) -> None:
    assert not is_outage(error)
    assert not is_outage(through_sqlalchemy(error))
    assert not is_refusal(error)
