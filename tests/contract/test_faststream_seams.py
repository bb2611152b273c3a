"""The private names of FastStream that this project builds on. One that is gone fails here."""

from importlib.metadata import version
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faststream.kafka.subscriber.usecase import BatchSubscriber

from gateway.fleet.application import (
    FETCH_BYTES,
    FETCH_WAIT_MS,
    MAX_BATCH_RECORDS,
    load_broker,
)
from gateway.fleet.fleet import Fleet
from niyama.settings import KafkaSettings


def test_the_pinned_version_is_installed() -> None:
    assert version("faststream") == "0.7.8"


async def test_its_subscribers_read_with_our_consumers() -> None:
    """`Broker._connect` replaces what `KafkaBroker._connect` would return and keep."""
    broker = load_broker(KafkaSettings(), Fleet())
    await broker.connect()
    (subscriber,) = broker.subscribers
    consumer = subscriber.builder(
        group_id=subscriber.group_id,
        client_id=subscriber.client_id,
        **subscriber._connection_args,
    )
    assert isinstance(consumer, AIOKafkaConsumer)
    assert consumer._client.bootstrap.__qualname__.startswith("pass_over_frozen_servers")
    assert consumer._group_id is None
    assert consumer._auto_offset_reset == "earliest"
    assert consumer._isolation_level == "read_committed"
    assert consumer._max_partition_fetch_bytes == FETCH_BYTES
    assert (consumer._fetch_min_bytes, consumer._fetch_max_wait_ms) == (FETCH_BYTES, FETCH_WAIT_MS)
    await consumer.stop()
    await broker.stop()


class Log:
    """A consumer with 250,000 records."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []

    async def getmany(
        self, *, timeout_ms: int, max_records: int | None
    ) -> dict[TopicPartition, list[str]]:
        self.asked.append(max_records)
        return {TopicPartition("load", 0): ["record"] * min(max_records or 250_000, 250_000)}


async def test_a_batch_is_bounded_by_records() -> None:
    (subscriber,) = load_broker(KafkaSettings(), Fleet()).subscribers
    assert isinstance(subscriber, BatchSubscriber)
    log: Any = Log()
    assert len(await subscriber.get_msg(log)) == MAX_BATCH_RECORDS
    assert log.asked == [MAX_BATCH_RECORDS]
