"""Dead letters wait for Kafka, but neither forever nor without bound."""

from collections.abc import Callable

import pytest
from aiokafka.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    MessageSizeTooLargeError,
)

from gateway.ledger import dead_letters
from gateway.ledger.dead_letters import DeadLetters
from gateway.ledger.records import Unusable
from gateway.settings import GatewaySettings
from schemas import JobError
from tests.support.records import FakeRecord

ERROR = JobError(code="invalid_json", message="why")


class FakeProducer:
    """Takes what `accepts` does not raise for."""

    def __init__(self, accepts: Callable[[bytes | None], None] = lambda value: None) -> None:
        self.accepts = accepts
        self.sent: list[bytes | None] = []

    async def send_and_wait(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: object
    ) -> None:
        self.accepts(value)
        self.sent.append(value)


def a_queue(*values: bytes) -> DeadLetters:
    queue = DeadLetters(GatewaySettings())
    for value in values:
        queue.put(Unusable(FakeRecord(value), ERROR))
    return queue


async def test_what_waits_is_sent_in_order() -> None:
    producer, queue = FakeProducer(), a_queue(b"1", b"2", b"3")
    await queue.send_waiting(producer)
    assert (producer.sent, len(queue)) == ([b"1", b"2", b"3"], 0)


async def test_a_flood_is_bounded_in_number_and_in_bytes() -> None:
    assert len(a_queue(*[b""] * (dead_letters.MAX_WAITING + 5))) == dead_letters.MAX_WAITING
    large = bytes(dead_letters.MAX_WAITING_BYTES // 8)
    queue = a_queue(*[large] * 20)
    assert len(queue) == 8
    await queue.send_waiting(FakeProducer())
    queue.put(Unusable(FakeRecord(large), ERROR))
    assert len(queue) == 1  # there is room again


async def test_what_is_too_large_for_the_topic_is_described() -> None:
    def small_ones(value: bytes | None) -> None:
        if value and len(value) > 10:
            raise MessageSizeTooLargeError

    producer = FakeProducer(small_ones)
    await a_queue(b"small", b"x" * 11).send_waiting(producer)
    assert sorted(producer.sent, key=bool) == [None, b"small"]


async def test_a_refused_one_is_dropped_and_holds_up_no_other() -> None:
    def most(value: bytes | None) -> None:
        if value == b"bad":
            raise InvalidTopicError

    producer, queue = FakeProducer(most), a_queue(b"1", b"bad", b"2")
    await queue.send_waiting(producer)
    assert (producer.sent, len(queue)) == ([b"1", b"2"], 0)


async def test_they_wait_while_kafka_is_away_and_none_is_sent_twice() -> None:
    away = True

    def sometimes(value: bytes | None) -> None:
        if value == b"2" and away:
            raise KafkaConnectionError

    producer, queue = FakeProducer(sometimes), a_queue(b"1", b"2", b"3")
    with pytest.raises(KafkaConnectionError):
        await queue.send_waiting(producer)
    assert len(queue) == 1
    away = False
    await queue.send_waiting(producer)
    assert producer.sent == [b"1", b"3", b"2"]
