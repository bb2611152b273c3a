"""Workers' settings and the harness that runs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import httpx
import pytest
import pytest_asyncio

from gateway.bootstrap import build, listen
from gateway.ledger.consumer import LedgerConsumer
from gateway.settings import GatewaySettings
from niyama import KafkaSettings, Producer, kafka
from tests.support.workers import Harness
from workers import connections
from workers.settings import WorkerSettings


@pytest.fixture
def session_timeout_s(monkeypatch: pytest.MonkeyPatch) -> int:
    """Long enough for a machine that does nothing for some seconds: no worker loses its partitions.
    Its heartbeats, by which it learns of a rebalance, come as often as in a short session."""
    monkeypatch.setattr(connections, "HEARTBEATS_PER_SESSION", 25)
    return 30


@pytest.fixture
def worker_settings(
    kafka_bootstrap: str, topic_prefix: str, pool: str, session_timeout_s: int
) -> WorkerSettings:
    return WorkerSettings(
        kafka_bootstrap=kafka_bootstrap,
        topic_prefix=topic_prefix,
        pool=pool,
        topic_partitions=3,
        engine="null",
        model="null",
        session_timeout_s=session_timeout_s,
        commit_interval_s=0.05,
        sglang_arguments=[],
    )


@pytest_asyncio.fixture
async def harness(worker_settings: WorkerSettings) -> AsyncIterator[Harness]:
    topics = worker_settings.topics
    await kafka.ensure_topics(worker_settings, topics.all)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(worker_settings))
        reported = (topics.events, topics.tokens, topics.dead_letters)
        consumer = kafka.consumer(worker_settings, *(spec.name for spec in reported))
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        yield Harness(worker_settings, producer, stack, consumer)


@pytest.fixture
def gateway_settings(worker_settings: WorkerSettings, database_url: str) -> GatewaySettings:
    """Of a gateway on the workers' topics, with a ledger of its own."""
    shared = set(KafkaSettings.model_fields)
    return GatewaySettings(
        **worker_settings.model_dump(include=shared, exclude_unset=True), database_url=database_url
    )


@pytest.fixture
async def ledger(gateway_settings: GatewaySettings) -> AsyncIterator[asyncpg.Connection]:
    """Its database, while a gateway keeps it from the workers' topics."""
    consumer = LedgerConsumer(gateway_settings)
    task = asyncio.create_task(consumer.run())
    connection = await asyncpg.connect(gateway_settings.database_url)
    try:
        yield connection
    finally:
        consumer.stop()
        await asyncio.wait_for(task, 60)
        await connection.close()


@pytest.fixture
async def api(harness: Harness, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway on the harness's topics, with a ledger of its own."""
    shared = {name: getattr(harness.settings, name) for name in ("kafka_bootstrap", "topic_prefix")}
    settings = GatewaySettings(
        **shared,
        pool=harness.settings.pool,
        database_url=database_url,
        api_port=0,
        create_reply_topics=True,
    )
    gateway, listener = build(settings), listen(settings)
    task = asyncio.create_task(gateway.run(listener))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client
        gateway.stop()
    await asyncio.wait_for(task, 60)
