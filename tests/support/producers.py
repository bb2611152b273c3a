"""A producer without Kafka."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError


@dataclass
class FakeBatch:
    """Implements what a sender uses of aiokafka's batches."""

    values: list[bytes | None] = field(default_factory=list)

    def append(
        self,
        *,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> object:
        self.values.append(value)
        return object()

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Delivery:
    """A batch that the test acknowledges or refuses."""

    topic: str
    partition: int
    values: list[bytes | None]
    future: "asyncio.Future[None]"

    async def succeed(self) -> None:
        self.future.set_result(None)
        await settle()

    async def fail(self, error: KafkaError) -> None:
        self.future.set_exception(error)
        await settle()

    async def cancel(self) -> None:
        self.future.cancel()
        await settle()


class FakeProducer:
    """Keeps its batches until the test decides on them."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = set(range(partitions))
        self.unknown_topic: KafkaError | None = None
        self.deliveries: list[Delivery] = []

    async def partitions_for(self, topic: str) -> set[int]:
        if self.unknown_topic is not None:
            raise self.unknown_topic
        return self.partitions

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(
        self, batch: FakeBatch, topic: str, *, partition: int
    ) -> "asyncio.Future[None]":
        assert partition in self.partitions
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deliveries.append(Delivery(topic, partition, batch.values, future))
        return future

    @property
    def sent(self) -> list[list[bytes | None]]:
        """The values of each batch."""
        return [delivery.values for delivery in self.deliveries]


async def settle() -> None:
    """Let the sender, and what it waits for, run until nothing is due any more."""
    for _ in range(20):
        await asyncio.sleep(0)
