"""Kafka plumbing shared by producers, the gateway and the workers."""

import asyncio
import contextlib
import logging
import random
import zlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupLoadInProgressError,
    IllegalStateError,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata

from niyama.bootstrapping import pass_over_frozen_servers
from niyama.errors import UnavailableError
from niyama.fetched import make_readable
from niyama.retry import retry
from niyama.sequence_numbers import keep_in_step
from niyama.settings import KafkaSettings
from schemas.event import Source
from schemas.headers import ReceivedHeaders
from schemas.topics import MAX_RECORD_BYTES, TopicSpec

log = logging.getLogger(__name__)

METADATA_MAX_AGE_MS = 10_000
"""So long a topic that was recreated, or has more partitions, may go unnoticed by consumers."""
NODE_TIMEOUT_MS = 3_000
"""For a broker to answer a question that any other can answer, too."""
POSITION_LIMIT_S = 0.1
"""For a partition whose position Kafka has to find. Others answer without waiting."""
MISSING_TOPIC = "the topic does not exist"
"""What `topic_fault` says of a topic that is not there."""


class ConsumedRecord(Protocol):
    """A Kafka record, as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: ReceivedHeaders


def source_of(record: ConsumedRecord) -> Source:
    """Which record it is, for events and people."""
    return Source(topic=record.topic, partition=record.partition, offset=record.offset)


def partition_of(key: bytes | None, partitions: int) -> int:
    """Which of so many partitions a record with this key goes to, whichever process sends it."""
    return zlib.crc32(key or b"") % partitions


def producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer that waits for all in-sync replicas. Not started."""
    defaults = {
        "acks": "all",
        "enable_idempotence": True,
        "max_request_size": MAX_RECORD_BYTES,
        "request_timeout_ms": 120_000,
    }
    created = AIOKafkaProducer(**(settings.client_options() | defaults | options))
    keep_in_step(created)
    pass_over_frozen_servers(created.client)
    return created


def consumer(settings: KafkaSettings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself. Not started.

    It gets no record of an aborted transaction, and none that cannot be decoded.
    """
    defaults = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "max_partition_fetch_bytes": MAX_RECORD_BYTES,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    }
    created = AIOKafkaConsumer(*topics, **(settings.client_options() | defaults | options))
    make_readable(created)
    pass_over_frozen_servers(created._client)
    return created


async def position_of(consumer: AIOKafkaConsumer, part: TopicPartition) -> int | None:
    """The offset that `consumer` reads next; None while it is unknown, or the partition is lost."""
    with contextlib.suppress(IllegalStateError, TimeoutError):
        async with asyncio.timeout(POSITION_LIMIT_S):
            position: int = await consumer.position(part)
            return position
    return None


def admin_client(settings: KafkaSettings) -> AIOKafkaAdminClient:
    """An admin client. Not started."""
    created = AIOKafkaAdminClient(**settings.client_options())
    pass_over_frozen_servers(created._client)
    return created


@asynccontextmanager
async def admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises KafkaError."""
    client = admin_client(settings)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def wait_for_kafka(settings: KafkaSettings) -> None:
    """Return once a broker answers; until then log a notice now and then."""
    await retry(
        lambda: probe(settings),
        KafkaError,
        notice=f"waiting for Kafka at {settings.kafka_bootstrap} (NIYAMA_KAFKA_BOOTSTRAP)",
        log=log,
    )


async def prepare_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    """Return once Kafka has all of `specs`. Raises UnavailableError when it refuses one."""

    async def prepare() -> None:
        await wait_for_kafka(settings)
        await ensure_topics(settings, specs)

    await retry(prepare, KafkaError, notice="Kafka is not ready", log=log)


async def probe(settings: KafkaSettings) -> None:
    """Raises KafkaError unless a broker answers."""
    async with admin(settings):
        pass


async def committed_offsets(
    client: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What `group` has committed in each of `partitions`; offset -1: nothing yet.

    Raises KafkaError. An answer without all of them is one: that is how aiokafka returns an error
    of the whole request, such as a coordinator that is still loading the group.
    """
    found: dict[TopicPartition, OffsetAndMetadata] = await client.list_consumer_group_offsets(
        group, partitions=list(partitions)
    )
    if set(partitions) - found.keys():
        raise GroupLoadInProgressError(f"Kafka does not return the offsets of {group} yet")
    return found


async def ensure_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    """Create what is missing among `specs`. Existing topics keep their settings.

    Raises UnavailableError when the broker refuses to create one, KafkaError when it cannot now.
    """
    replication = settings.topic_replication
    refused = await create_missing(
        settings,
        [new_topic(spec.name, spec.partitions, replication, spec.configs()) for spec in specs],
    )
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise UnavailableError(f"Kafka does not create {reasons}")


def new_topic(
    name: str, partitions: int = -1, replication: int = -1, configs: dict[str, str] | None = None
) -> NewTopic:
    """A topic to create. -1 leaves the number of partitions or replicas to the broker."""
    # aiokafka accepts -1 only beside assignments: here, none.
    assignments: dict[int, list[int]] | None = {} if -1 in (partitions, replication) else None
    return NewTopic(name, partitions, replication, assignments, configs)


async def create_missing(settings: KafkaSettings, topics: Sequence[NewTopic]) -> dict[str, str]:
    """Create those of `topics` that do not exist.

    Returns why not, for each that the broker refuses to create. Raises KafkaError, also for one
    that a later attempt may create.
    """
    async with admin(settings) as client:
        existing = set(await client.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return {}
        response = await client.create_topics(missing)
    refusals, not_yet = {}, []
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if not code:
            log.info("topic %s created", name)
        elif error.retriable or error is InvalidReplicationFactorError:  # some brokers are not up
            not_yet.append(error(" ".join(filter(None, [name, *message]))))
        elif error is not TopicAlreadyExistsError:  # another process was faster
            refusals[name] = " ".join(filter(None, [error.__name__, *message]))
    if not_yet and not refusals:
        raise not_yet[0]
    return refusals


async def topic_fault(settings: KafkaSettings, name: str) -> str | None:
    """What keeps the topic `name` from taking records, or None. Raises KafkaError.

    It asks in a way that does not create the topic, whatever the broker's settings are.
    """
    client = AIOKafkaClient(**settings.client_options(), request_timeout_ms=NODE_TIMEOUT_MS)
    pass_over_frozen_servers(client)
    try:
        await client.bootstrap()
        request = MetadataRequest([name], allow_auto_topic_creation=False)
        [topic] = (await _ask_any(client, request)).topics
    finally:
        await client.close()
    error, *_, partitions = topic
    if for_code(error) is UnknownTopicOrPartitionError:
        return MISSING_TOPIC
    if error:
        return f"Kafka says {for_code(error).__name__}"
    leaderless = sorted(number for _, number, leader, *_ in partitions if leader < 0)
    return f"partition {leaderless[0]} has no leader" if leaderless else None


async def _ask_any(client: AIOKafkaClient, request: MetadataRequest) -> Any:
    """The answer of the first broker that gives one. Raises KafkaError."""
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(nodes)
    failure: KafkaError = KafkaConnectionError("the cluster names no brokers")
    for node in nodes:
        try:
            return await client.send(node, request)
        except KafkaError as error:
            failure = error
    raise failure
