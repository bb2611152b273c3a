"""A record that Kafka refuses leaves its producer as it was."""

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from niyama import JobRequest, Producer, kafka
from niyama.settings import KafkaSettings
from schemas.topics import TopicSpec

SMALL, LARGE = b"x" * 100, b"x" * 100_000


@pytest.fixture
async def settings(kafka_bootstrap: str, topic_prefix: str, pool: str) -> KafkaSettings:
    """Topics that carry less than what producers send."""
    settings = KafkaSettings(kafka_bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, pool=pool)
    name = settings.topics.interactive.name
    small = TopicSpec(name, 1, 3600, "", max_record_bytes=10_000)
    await kafka.ensure_topics(settings, [small])
    return settings


async def test_the_next_records_of_its_partition_are_taken(settings: KafkaSettings) -> None:
    topic = settings.topics.interactive.name
    async with kafka.producer(settings) as producer:
        await producer.send_and_wait(topic, SMALL)
        for expected_offset in (1, 2):
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_and_wait(topic, LARGE)
            assert (await producer.send_and_wait(topic, SMALL)).offset == expected_offset


async def test_the_next_batch_of_its_partition_is_taken(settings: KafkaSettings) -> None:
    async with kafka.producer(settings, max_batch_size=1_000_000) as producer:
        assert await _send_batch(producer, settings, SMALL) == 0
        with pytest.raises(MessageSizeTooLargeError):
            await _send_batch(producer, settings, LARGE)
        assert await _send_batch(producer, settings, SMALL) == 1


async def _send_batch(producer: AIOKafkaProducer, settings: KafkaSettings, value: bytes) -> int:
    batch = producer.create_batch()
    batch.append(key=b"k", value=value, timestamp=None)
    topic = settings.topics.interactive.name
    delivery = await producer.send_batch(batch, topic, partition=0)
    return int((await delivery).offset)


async def test_the_next_transaction_is_committed(settings: KafkaSettings) -> None:
    topic = settings.topics.interactive.name
    async with kafka.producer(settings, transactional_id=topic) as producer:
        for _ in range(2):
            await _commit(producer, topic, SMALL)
            with pytest.raises(MessageSizeTooLargeError):
                await _commit(producer, topic, SMALL, LARGE)
        await _commit(producer, topic, SMALL)


async def _commit(producer: AIOKafkaProducer, topic: str, *values: bytes) -> None:
    async with producer.transaction():
        for value in values:
            await producer.send_and_wait(topic, value)


async def test_the_next_jobs_of_a_client_are_taken(settings: KafkaSettings) -> None:
    async with Producer(settings) as producer:
        await producer.publish(JobRequest(model="m", qos="chat", prompt="x"))
        with pytest.raises(MessageSizeTooLargeError):
            await producer.publish(JobRequest(model="m", qos="chat", prompt="x" * 100_000))
        ack = await producer.publish(JobRequest(model="m", qos="chat", prompt="x"))
        assert (ack.partition, ack.offset) == (0, 1)
