"""What the gateway needs before it can work: Kafka with its topics, Postgres with its tables."""

import asyncio
import logging

from aiokafka.errors import KafkaError

from gateway import database
from gateway.ledger.history_partitions import ensure_coming_days
from gateway.migrate import check_schema
from gateway.settings import DatabaseSettings
from niyama import kafka
from niyama.errors import UnavailableError
from niyama.retry import retry
from niyama.settings import KafkaSettings

log = logging.getLogger(__name__)

PARTITIONS_TIMEOUT_S = 10.0
"""What takes longer is made beside the ledger's work."""


async def prepare_kafka(settings: KafkaSettings) -> None:
    """Return once Kafka has every topic that is needed. Raises UnavailableError when it refuses to
    create one of these."""
    topics = settings.topics
    await kafka.prepare_topics(settings, topics.of_gateways)
    try:
        await kafka.ensure_topics(settings, [topics.load])
    except (KafkaError, UnavailableError) as error:
        log.warning("workers' load reports may be missing: %s", error)


async def prepare_postgres(settings: DatabaseSettings) -> None:
    """Return once Postgres can take events. Raises ConfigurationError when it never will."""

    async def prepare() -> None:
        await database.wait_for_postgres(settings)
        await check_schema(settings)

    await retry(prepare, *database.UNREACHABLE, notice="Postgres is not ready", log=log)
    try:
        async with asyncio.timeout(PARTITIONS_TIMEOUT_S):
            await ensure_coming_days(settings)
    except database.UNREACHABLE as error:
        log.warning("events go to the default partition of job_events for now: %r", error)
