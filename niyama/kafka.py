"""Kafka plumbing shared by producers, the gateway and the workers."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from niyama.errors import UnavailableError
from niyama.settings import KafkaSettings
from schemas.headers import Headers
from schemas.topics import MAX_RECORD_BYTES, TopicSpec

log = logging.getLogger(__name__)

RETRY_INTERVAL_S = 1.0
NOTICE_INTERVAL_S = 10.0


class ConsumedRecord(Protocol):
    """A Kafka record, as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments that every aiokafka client takes."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": settings.kafka_security_protocol,
    }
    if "SSL" in settings.kafka_security_protocol:
        options["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if "SASL" in settings.kafka_security_protocol:
        password = settings.kafka_password
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = password.get_secret_value() if password else None
    return options


def producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer that waits for all in-sync replicas. Not started."""
    defaults = {
        "acks": "all",
        "enable_idempotence": True,
        "max_request_size": MAX_RECORD_BYTES,
        "request_timeout_ms": 120_000,
    }
    return AIOKafkaProducer(**(connection(settings) | defaults | options))


def consumer(settings: KafkaSettings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself. Not started."""
    defaults = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": MAX_RECORD_BYTES,
    }
    return AIOKafkaConsumer(*topics, **(connection(settings) | defaults | options))


async def wait_for_kafka(settings: KafkaSettings) -> None:
    """Return once a broker answers; until then log a notice now and then."""
    loop = asyncio.get_running_loop()
    next_notice_s = loop.time()
    while True:
        probe = AIOKafkaAdminClient(**connection(settings))
        try:
            await probe.start()
            return
        except KafkaError as error:
            if loop.time() >= next_notice_s:
                log.warning(
                    "waiting for Kafka at %s (NIYAMA_KAFKA_BOOTSTRAP): %s",
                    settings.kafka_bootstrap,
                    error,
                )
                next_notice_s = loop.time() + NOTICE_INTERVAL_S
        finally:
            await probe.close()
        await asyncio.sleep(RETRY_INTERVAL_S)


async def ensure_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    """Create what is missing among ``specs``. Existing topics keep their settings.

    Raises UnavailableError when the broker refuses to create one.
    """
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [spec for spec in specs if spec.name not in existing]
        if missing:
            await _create(admin, missing, settings.topic_replication)
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], replication: int) -> None:
    response = await admin.create_topics(
        [
            NewTopic(
                name=spec.name,
                num_partitions=spec.partitions,
                replication_factor=replication,
                # aiokafka takes the broker's default (-1) only beside assignments: here, none.
                replica_assignments={} if replication == -1 else None,
                topic_configs=spec.configs(),
            )
            for spec in specs
        ]
    )
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process was faster
            raise UnavailableError(f"Kafka did not create topic {name}: {error.__name__} {message}")
        log.info("topic %s is there", name)
