"""Which errors say that Postgres is unreachable, and not that a statement is wrong."""

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from gateway.database import UNREACHABLE, is_outage


def _through_sqlalchemy(error: Exception) -> DBAPIError:
    """As SQLAlchemy raises it: its adapter's error, whose cause is asyncpg's."""
    adapted = Exception(str(error))
    adapted.__cause__ = error
    return DBAPIError("SELECT 1", {}, adapted)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        ConnectionResetError("reset"),
    ],
)
def test_a_server_that_starts_or_stops_is_an_outage(error: Exception) -> None:
    assert is_outage(_through_sqlalchemy(error))


def test_a_wrong_statement_is_not() -> None:
    assert not is_outage(_through_sqlalchemy(asyncpg.UndefinedColumnError("no such column")))


def test_a_connection_that_ends_within_a_protocol_state_is_an_outage() -> None:
    """asyncpg says so when the server dies between two messages of one statement."""
    assert issubclass(asyncpg.InternalClientError, UNREACHABLE)
