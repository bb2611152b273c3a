"""What a running part may find wrong around it: each lasts as long as its context."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
from aiokafka.errors import KafkaError

from niyama.errors import UnavailableError
from niyama.kafka import admin, ensure_topics, topic_fault
from schemas.topics import TopicSpec
from tests.chaos.ledger import AWAY
from tests.chaos.stack import ChaosStack

REPAIR_TIMEOUT_S = 60.0
REPAIR_INTERVAL_S = 0.3
REQUEST_TIMEOUT_S = 10.0


class CannotInjectError(Exception):
    """The fault cannot be carried out here, or now."""


@contextlib.asynccontextmanager
async def full_disk(stack: ChaosStack) -> AsyncIterator[None]:
    """Postgres' disk has no room."""
    disk = stack.disk
    if disk is None:
        raise CannotInjectError("no tmpfs can be mounted here (root only)")
    if not disk.fill():
        raise CannotInjectError("the tmpfs could not be made smaller")
    postgres = stack.process("postgres")
    if postgres is not None:
        stack.doom(postgres)  # it panics when it cannot write its log
    try:
        yield
    finally:
        disk.free()


@contextlib.asynccontextmanager
async def read_only(stack: ChaosStack) -> AsyncIterator[None]:
    """Postgres refuses to write, as after a failover."""
    try:
        await _set_read_only(stack.database_url, "on")
        yield
    except AWAY as error:
        raise CannotInjectError(f"Postgres does not take it: {error!r}") from error
    finally:
        await _repair(lambda: _set_read_only(stack.database_url, "off"))


@contextlib.asynccontextmanager
async def without_topic(stack: ChaosStack, topic: TopicSpec) -> AsyncIterator[None]:
    """`topic` is deleted; in the end it is there again, empty."""
    settings = stack.kafka_settings
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S), admin(settings) as client:
            await client.delete_topics([topic.name])
        yield
    except (OSError, KafkaError) as error:
        raise CannotInjectError(f"Kafka does not take it: {error!r}") from error
    finally:  # also when the topic is gone, and the answer is, too
        await _repair(lambda: _make_topic(stack, topic))


async def _make_topic(stack: ChaosStack, topic: TopicSpec) -> None:
    settings = stack.kafka_settings
    await ensure_topics(settings, [topic])
    # While a topic is being deleted, Kafka says that it exists.
    if fault := await topic_fault(settings, topic.name):
        raise UnavailableError(fault)


async def _set_read_only(database_url: str, value: str) -> None:
    connection = await asyncpg.connect(database_url, timeout=REQUEST_TIMEOUT_S)
    try:
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        connection.terminate()


async def _repair(attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it works; another fault may be in the way. Raises TimeoutError."""
    async with asyncio.timeout(REPAIR_TIMEOUT_S):
        while True:
            with contextlib.suppress(*AWAY, KafkaError, UnavailableError):
                return await attempt()
            await asyncio.sleep(REPAIR_INTERVAL_S)
