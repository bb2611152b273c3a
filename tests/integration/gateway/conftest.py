"""A gateway's settings on the run's Kafka and Postgres, and a way to feed it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.postgres import connection
from gateway.settings import GatewaySettings
from niyama import kafka
from tests.support.polls import Log
from tests.support.wire import Wire


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests connect once where a gateway tries again."""
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 60.0)


@pytest.fixture
def settings(
    kafka_bootstrap: str, topic_prefix: str, pool: str, database_url: str
) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap=kafka_bootstrap,
        topic_prefix=topic_prefix,
        pool=pool,
        topic_partitions=2,
        database_url=database_url,
        api_port=0,
        create_reply_topics=True,
    )


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def wire(settings: GatewaySettings, postgres: asyncpg.Connection) -> AsyncIterator[Wire]:
    await kafka.ensure_topics(settings, settings.topics.all)
    wire = Wire(settings, postgres)
    await wire.kafka.start()
    yield wire
    await wire.kafka.stop()


@pytest.fixture
async def log(postgres: asyncpg.Connection) -> Log:
    await postgres.execute("INSERT INTO ledger_offsets VALUES ('topic', 0, 0)")
    return Log(postgres)
