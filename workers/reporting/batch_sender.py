"""Records on their way to Kafka, sent in batches.

`AIOKafkaProducer.send` costs a coroutine and a future per record. Here records are only appended
to a list; one task sends whatever has accumulated as one batch per partition. At most one batch
of a partition is in flight, so records with the same key stay in order, and the next batch grows
meanwhile.

The producer is idempotent and retries for as long as Kafka is unavailable. What accumulates
meanwhile is bounded by the callers, who stop producing more while the sender is `full`.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from aiokafka import AIOKafkaProducer

from niyama.errors import UnavailableError

LINGER_S = 0.003
FULL_BYTES = 64 * 1024 * 1024
_RECORD_OVERHEAD_BYTES = 200
"""Bookkeeping in memory, so that many small records fill the sender, too."""

Delivered = Callable[[], None]


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One record. `on_delivered` is called once all in-sync replicas have it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Sequence[tuple[str, bytes]] = ()
    on_delivered: Delivered | None = None

    @property
    def size_bytes(self) -> int:
        """In memory and on the wire, roughly."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + _RECORD_OVERHEAD_BYTES


@dataclass(slots=True)
class _PartitionQueue:
    """Records for one partition."""

    topic: str
    partition: int
    waiting: deque[OutgoingRecord] = field(default_factory=deque)
    in_flight: list[OutgoingRecord] = field(default_factory=list)


class BatchSender:
    """Sends records to several topics. `run` must be running."""

    def __init__(self, producer: AIOKafkaProducer, partitions: Mapping[str, Iterable[int]]) -> None:
        """`partitions`, by topic, are those of every topic that will be written to."""
        self._producer = producer
        self._queues = {
            topic: [_PartitionQueue(topic, partition) for partition in sorted(numbers)]
            for topic, numbers in partitions.items()
        }
        self._unsent_bytes = 0
        self._wake = asyncio.Event()
        self._change = asyncio.Event()
        self._failure: BaseException | None = None

    @classmethod
    async def open(cls, producer: AIOKafkaProducer, topics: Iterable[str]) -> Self:
        """A sender to `topics`. The producer is started."""
        return cls(producer, {topic: await producer.partitions_for(topic) for topic in topics})

    @property
    def full(self) -> bool:
        return self._unsent_bytes > FULL_BYTES

    @property
    def empty(self) -> bool:
        return not self._unsent_bytes

    def put(self, topic: str, record: OutgoingRecord) -> None:
        """Queue `record`. Records with the same key arrive in the order of their `put`."""
        queues = self._queues[topic]
        queue = queues[zlib.crc32(record.key or b"") % len(queues)]
        queue.waiting.append(record)
        self._unsent_bytes += record.size_bytes
        if not queue.in_flight:
            self._wake.set()

    async def wait_for_room(self) -> None:
        """Return when not `full`."""
        await self._until(lambda: not self.full)

    async def flush(self) -> None:
        """Return when everything has been delivered."""
        await self._until(lambda: self.empty)

    async def run(self) -> None:
        """Send until cancelled. Raises UnavailableError when Kafka rejects records for good."""
        while True:
            await self._wake.wait()
            # Immediately when idle; otherwise let records accumulate while a batch is in flight.
            await asyncio.sleep(LINGER_S if self._busy else 0)
            self._wake.clear()
            if self._failure is not None:
                raise UnavailableError(f"Kafka rejects records: {self._failure!r}")
            for queues in self._queues.values():
                for queue in queues:
                    if queue.waiting and not queue.in_flight:
                        await self._send(queue)

    @property
    def _busy(self) -> bool:
        return any(queue.in_flight for queues in self._queues.values() for queue in queues)

    async def _send(self, queue: _PartitionQueue) -> None:
        batch = self._producer.create_batch()
        while queue.waiting:
            record = queue.waiting[0]
            appended = batch.append(
                timestamp=record.timestamp_ms,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
            )
            if appended is None:
                break
            queue.in_flight.append(queue.waiting.popleft())
        batch.close()
        delivery = await self._producer.send_batch(batch, queue.topic, partition=queue.partition)
        delivery.add_done_callback(lambda done: self._settle(queue, done))

    def _settle(self, queue: _PartitionQueue, delivery: "asyncio.Future[object]") -> None:
        if delivery.cancelled():
            return
        if (error := delivery.exception()) is not None:
            self._failure = error
            self._wake.set()
            return
        delivered, queue.in_flight = queue.in_flight, []
        self._unsent_bytes -= sum(record.size_bytes for record in delivered)
        self._change.set()
        if queue.waiting:
            self._wake.set()
        for record in delivered:
            if record.on_delivered is not None:
                record.on_delivered()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._change.clear()
            await self._change.wait()
