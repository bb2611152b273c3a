"""Whether load reports are being read, and how many are not yet."""

import asyncio
from collections.abc import Callable
from unittest.mock import AsyncMock

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from faststream import FastStream

from gateway.fleet import follower as follower_module
from gateway.fleet.application import application
from gateway.fleet.fleet import Fleet
from gateway.fleet.follower import SILENT_AFTER_S, LoadFollower
from niyama.settings import KafkaSettings
from tests.support.clock import Clock

ONE, OTHER = (TopicPartition("load", number) for number in range(2))


class FakeConsumer:
    """Of two partitions with 100 records each."""

    def __init__(self) -> None:
        self.positions = {ONE: 40, OTHER: 100}
        self.stamps: dict[TopicPartition, int] = {}

    def fetched(self, *partitions: TopicPartition) -> None:
        """Kafka has answered a fetch of these."""
        for part in partitions:
            self.stamps[part] = self.stamps.get(part, 0) + 500

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    def last_poll_timestamp(self, part: TopicPartition) -> int | None:
        return self.stamps.get(part)

    def highwater(self, part: TopicPartition) -> int | None:
        return 100 if part in self.stamps else None

    async def position(self, part: TopicPartition) -> int:
        return self.positions[part]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def reading(fleet: Fleet) -> FastStream:
    return application(KafkaSettings(), fleet)


@pytest.fixture
def consumer(reading: FastStream, monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    consumer = FakeConsumer()
    (subscriber,) = reading.brokers[0].subscribers
    monkeypatch.setattr(subscriber, "consumer", consumer)
    return consumer


async def test_it_starts_as_soon_as_kafka_answers_and_ends_when_asked(
    reading: FastStream,
    fleet: Fleet,
    consumer: FakeConsumer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("niyama.retry.RETRY_INTERVAL_S", 0)
    monkeypatch.setattr(follower_module, "LOOK_INTERVAL_S", 0)
    (broker,) = reading.brokers
    started = AsyncMock(side_effect=[KafkaConnectionError("away"), None])
    stopped = AsyncMock()
    monkeypatch.setattr(broker, "start", started)
    monkeypatch.setattr(broker, "stop", stopped)
    follower = LoadFollower(reading, fleet)
    running = asyncio.create_task(follower.run())
    await until(lambda: started.await_count == 2)
    assert not fleet.following  # nothing has been read yet
    consumer.fetched(ONE, OTHER)
    await until(lambda: fleet.following)
    follower.stop()
    await running
    assert stopped.await_count == 2  # once for the attempt that failed
    assert not fleet.following


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0)


async def test_reports_are_followed_for_as_long_as_kafka_answers_for_every_partition(
    reading: FastStream, fleet: Fleet, consumer: FakeConsumer, clock: Clock
) -> None:
    follower = LoadFollower(reading, fleet, clock)

    async def follows() -> bool:
        await follower.look()
        return fleet.following

    assert not await follows()
    consumer.fetched(ONE)
    assert not await follows()
    consumer.fetched(OTHER)
    assert await follows()
    clock.now_s += SILENT_AFTER_S - 1
    consumer.fetched(ONE)
    assert await follows()
    clock.now_s += 1
    assert not await follows()  # the other partition has lost its leader
    consumer.fetched(OTHER)
    assert await follows()


async def test_what_is_not_read_yet_is_counted_while_there_is_kafka(
    reading: FastStream, fleet: Fleet, consumer: FakeConsumer, clock: Clock
) -> None:
    follower = LoadFollower(reading, fleet, clock)
    consumer.fetched(ONE, OTHER)
    await follower.look()
    assert fleet.unread == 60
    consumer.positions[ONE] = 100
    await follower.look()
    assert fleet.unread == 0
    clock.now_s += SILENT_AFTER_S
    await follower.look()
    assert fleet.unread is None
