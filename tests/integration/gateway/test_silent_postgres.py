"""A Postgres that accepts connections and never answers: whatever waits for it has a bound."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import database
from gateway.ledger.writer import write
from gateway.postgres import connection
from gateway.settings import DatabaseSettings
from niyama.local.postgres import SOCKET_NAME
from tests.support.stalling_proxy import StallingProxy, stalling_proxy

BOUND_S = 60.0
"""What the shortened timeouts below add up to is far less."""
CONNECT_TIMEOUT_S = 1


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[StallingProxy]:
    folder = Path(database_url.partition("host=")[2])
    async with stalling_proxy(str(folder / SOCKET_NAME)) as proxy:
        yield proxy


@pytest.fixture
def settings(
    database_url: str, proxy: StallingProxy, monkeypatch: pytest.MonkeyPatch
) -> DatabaseSettings:
    """Of the database behind the proxy, with less than a second for each statement."""
    monkeypatch.setattr(connection, "CLIENT_GRACE_S", 0.1)
    monkeypatch.setattr(database, "READ_TIMEOUT_S", 0.4)
    url = database_url.replace("@/", f"@{proxy.address}/").partition("?")[0]
    return DatabaseSettings(database_url=f"{url}?sslmode=disable")


async def test_connecting_ends(settings: DatabaseSettings, proxy: StallingProxy) -> None:
    url = f"{settings.database_url}&connect_timeout={CONNECT_TIMEOUT_S}"
    proxy.flowing.clear()

    async with asyncio.timeout(BOUND_S):
        with pytest.raises(TimeoutError):
            await database.connect(DatabaseSettings(database_url=url), "test")


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


async def read_together(pool: AsyncEngine, count: int) -> list[object]:
    """So many reads at a time: what each gave, or its error."""
    reads = [database.read(pool, text("SELECT 1")) for _ in range(count)]
    return list(await asyncio.gather(*reads, return_exceptions=True))


async def until_read(pool: AsyncEngine, count: int) -> None:
    """Return once so many reads at a time have worked: a busy machine may be late for some."""
    async with asyncio.timeout(BOUND_S):
        while any(isinstance(each, BaseException) for each in await read_together(pool, count)):
            pass


async def test_reads_end_and_work_again_when_postgres_answers(
    settings: DatabaseSettings, proxy: StallingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = database.engine(settings, 2)
    await until_read(pool, 2)
    proxy.flowing.clear()

    async with asyncio.timeout(BOUND_S):
        with monkeypatch.context() as patch:
            patch.setattr(connection, "CONNECT_TIMEOUT_S", CONNECT_TIMEOUT_S)
            failures = await read_together(pool, 4)
            answers = await database.answers(pool)
        proxy.flowing.set()
        await until_read(pool, 1)
        proxy.flowing.clear()
        await pool.dispose()

    assert all(isinstance(failure, database.UNREACHABLE) for failure in failures)
    assert not answers
