"""What the gateway needs before it can work: Kafka with its topics, Postgres with its tables."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

from aiokafka.errors import KafkaError

from gateway import database
from gateway.ledger.history_partitions import ensure_partitions
from gateway.migrate import check_schema
from gateway.settings import DatabaseSettings
from niyama import kafka
from niyama.retry import retry
from niyama.settings import KafkaSettings

log = logging.getLogger(__name__)

PARTITIONS_INTERVAL_S = 3600.0


async def prepare_kafka(settings: KafkaSettings) -> None:
    """Return once Kafka has every topic. Raises UnavailableError when it refuses to create one."""

    async def prepare() -> None:
        await kafka.wait_for_kafka(settings)
        await kafka.ensure_topics(settings, settings.topics.all)

    await retry(prepare, KafkaError, notice="Kafka is not ready", log=log)


async def prepare_postgres(settings: DatabaseSettings) -> None:
    """Return once Postgres can take events. Raises ConfigurationError when it never will."""

    async def prepare() -> None:
        await database.wait_for_postgres(settings)
        await check_schema(settings)
        await _make_partitions(settings)

    await retry(prepare, *database.UNREACHABLE, notice="Postgres is not ready", log=log)


async def make_partitions(settings: DatabaseSettings, stopped: asyncio.Event) -> None:
    """Make the coming days' partitions of `job_events`, every hour until `stopped` is set."""
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), PARTITIONS_INTERVAL_S)
            return
        try:
            await _make_partitions(settings)
        except database.UNREACHABLE as error:
            log.warning("partitions of job_events not made, next try in an hour: %r", error)


async def _make_partitions(settings: DatabaseSettings) -> None:
    connection = await database.connect(settings, "partitions")
    try:
        await ensure_partitions(connection, datetime.now(UTC).date())
    finally:
        await connection.close()
