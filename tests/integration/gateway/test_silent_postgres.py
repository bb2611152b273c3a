"""A Postgres that accepts connections and never answers: whatever waits for it has a bound."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway import database
from gateway.ledger.writer import write
from gateway.postgres import connection
from gateway.settings import DatabaseSettings
from niyama.local.postgres import SOCKET_NAME
from tests.support.stalling_proxy import StallingProxy, stalling_proxy

BOUND_S = 10.0
"""What the shortened timeouts below add up to is far less."""


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[StallingProxy]:
    folder = Path(database_url.partition("host=")[2])
    async with stalling_proxy(str(folder / SOCKET_NAME)) as proxy:
        yield proxy


@pytest.fixture
def settings(
    database_url: str, proxy: StallingProxy, monkeypatch: pytest.MonkeyPatch
) -> DatabaseSettings:
    """Of the database behind the proxy, with a second for everything."""
    monkeypatch.setattr(connection, "CLIENT_GRACE_S", 0.1)
    monkeypatch.setattr(database, "READ_TIMEOUT_S", 0.4)
    url = database_url.replace("@/", f"@{proxy.address}/").partition("?")[0]
    return DatabaseSettings(database_url=f"{url}?connect_timeout=1&sslmode=disable")


async def test_connecting_ends(settings: DatabaseSettings, proxy: StallingProxy) -> None:
    proxy.flowing.clear()

    async with asyncio.timeout(BOUND_S):
        with pytest.raises(TimeoutError):
            await database.connect(settings, "test")


async def test_a_transaction_ends_and_so_does_its_connection(
    settings: DatabaseSettings, proxy: StallingProxy
) -> None:
    connected = await database.connect(settings, "test", statement_timeout_s=0.3)
    proxy.flowing.clear()

    async with asyncio.timeout(BOUND_S):
        with pytest.raises(database.UNREACHABLE):
            await write(connected, [], [])
        await connected.close()

    assert connected.is_closed()


async def test_a_cancelled_statement_ends(settings: DatabaseSettings, proxy: StallingProxy) -> None:
    connected = await database.connect(settings, "test", statement_timeout_s=0.3)
    proxy.flowing.clear()
    running = asyncio.create_task(write(connected, [], []))
    await asyncio.sleep(0)

    running.cancel()

    done, _ = await asyncio.wait({running}, timeout=BOUND_S)
    assert done
    await connected.close()


async def test_reads_end_and_work_again_when_postgres_answers(
    settings: DatabaseSettings, proxy: StallingProxy
) -> None:
    pool = database.engine(settings, 2)
    query = text("SELECT 1")
    await asyncio.gather(*(database.read(pool, query) for _ in range(2)))
    proxy.flowing.clear()

    async with asyncio.timeout(BOUND_S):
        reads = [database.read(pool, query) for _ in range(4)]
        failures = await asyncio.gather(*reads, return_exceptions=True)
        answers = await database.answers(pool)
        proxy.flowing.set()
        (row,) = await database.read(pool, query)
        proxy.flowing.clear()
        await pool.dispose()

    assert all(isinstance(failure, database.UNREACHABLE) for failure in failures)
    assert not answers
    assert row[0] == 1
