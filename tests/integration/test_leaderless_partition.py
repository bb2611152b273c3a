"""A record that expires while its partition has no leader leaves its producer as it was."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, LeaderNotAvailableError, OutOfOrderSequenceNumber
from aiokafka.protocol.produce import ProduceRequest

from niyama import kafka
from niyama.settings import KafkaSettings
from schemas.topics import TopicSpec


class Leadership:
    """Lets a producer believe that no partition has a leader, and its records expire at once."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._patch = pytest.MonkeyPatch()

    def lose(self) -> None:
        cluster = self._producer.client.cluster
        self._patch.setattr(cluster, "leader_for_partition", lambda partition: -1)
        self._patch.setattr(self._producer._message_accumulator, "_batch_ttl", 0)

    def lose_after_sending(self) -> None:
        """The next record is given to a connection that breaks, and then there is no leader."""
        send = self._producer.client.send

        async def break_off(node_id: int, request: Any, **options: Any) -> Any:
            if not isinstance(request, ProduceRequest):
                return await send(node_id, request, **options)
            self.lose()
            raise KafkaConnectionError

        self._patch.setattr(self._producer.client, "send", break_off)
        self._patch.setattr(self._producer._message_accumulator, "_batch_ttl", 0)

    def regain(self) -> None:
        self._patch.undo()


@pytest.fixture
async def topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    settings = KafkaSettings(kafka_bootstrap=kafka_bootstrap)
    await kafka.ensure_topics(settings, [TopicSpec(topic_prefix, 2, 3600, "")])
    return topic_prefix


@pytest.fixture
async def producer(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    async with kafka.producer(KafkaSettings(kafka_bootstrap=kafka_bootstrap)) as producer:
        yield producer


@pytest.fixture
def leadership(producer: AIOKafkaProducer) -> Leadership:
    return Leadership(producer)


async def test_a_record_that_was_never_sent(
    topic: str, producer: AIOKafkaProducer, leadership: Leadership
) -> None:
    assert await _send_to_both(producer, topic) == [0, 0]
    known_as = producer._txn_manager.producer_id

    leadership.lose()
    first, second = await _send_to_both(producer, topic)
    leadership.regain()

    assert isinstance(first, LeaderNotAvailableError)
    assert isinstance(second, LeaderNotAvailableError)
    assert await _send_to_both(producer, topic) == [1, 1]
    assert producer._txn_manager.producer_id == known_as


async def test_a_record_of_which_nobody_knows_whether_it_was_written(
    topic: str, producer: AIOKafkaProducer, leadership: Leadership
) -> None:
    assert await _send_to_both(producer, topic) == [0, 0]

    leadership.lose_after_sending()
    first, second = await _send_to_both(producer, topic)
    leadership.regain()

    assert isinstance(first, LeaderNotAvailableError)
    assert isinstance(second, LeaderNotAvailableError)
    assert await _send_to_both(producer, topic) == [1, 1]


async def test_of_records_that_are_out_of_order_only_the_first_is_refused(
    topic: str, producer: AIOKafkaProducer
) -> None:
    """Whatever brought the producer and the broker out of step."""
    assert await _send_to_both(producer, topic) == [0, 0]
    producer._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 5)

    first, second = await _send_to_both(producer, topic)

    assert isinstance(first, OutOfOrderSequenceNumber)
    assert second == 1
    assert await _send_to_both(producer, topic) == [1, 2]


async def _send_to_both(producer: AIOKafkaProducer, topic: str) -> list[int | BaseException]:
    """Send a record to either partition. Returns their offsets, or what kept them from being
    written."""
    async with asyncio.timeout(60):
        deliveries = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
        sent = await asyncio.gather(*deliveries, return_exceptions=True)
    return [each if isinstance(each, BaseException) else each.offset for each in sent]
