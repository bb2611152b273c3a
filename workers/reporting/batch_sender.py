"""Records on their way to Kafka.

`AIOKafkaProducer.send` costs a coroutine and a future per record. Here records are only appended
to a list; one task sends what has gathered as one batch per partition. At most one batch of a
partition is under way, so records of one key stay in order, and while it is under way the next
one grows.

The producer is idempotent and retries for as long as Kafka is away. What gathers meanwhile is
bounded by the callers, who stop making more while `full`.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from niyama.errors import UnavailableError

LINGER_S = 0.003
BATCH_BYTES = 512 * 1024
FULL_BYTES = 64 * 1024 * 1024
_RECORD_OVERHEAD_BYTES = 200  # key, headers, bookkeeping: keeps many small records in check too

Delivered = Callable[[], None]


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One record. ``on_delivered`` is called once all in-sync replicas have it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Sequence[tuple[str, bytes]] = ()
    on_delivered: Delivered | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.value or b"") + _RECORD_OVERHEAD_BYTES


@dataclass(slots=True)
class _Lane:
    """One partition's records."""

    topic: str
    partition: int
    waiting: deque[OutgoingRecord] = field(default_factory=deque)
    under_way: list[OutgoingRecord] = field(default_factory=list)


class Outbox:
    """Sends records to several topics. `run` must be running."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._lanes: dict[str, list[_Lane]] = {}
        self._unsent_bytes = 0
        self._wake = asyncio.Event()
        self._change = asyncio.Event()
        self._failure: BaseException | None = None

    async def open(self, *topics: str) -> None:
        """Look up the partitions of the topics that will be written to."""
        for topic in topics:
            partitions = await self._producer.partitions_for(topic)
            self._lanes[topic] = [_Lane(topic, partition) for partition in sorted(partitions)]

    @property
    def full(self) -> bool:
        return self._unsent_bytes > FULL_BYTES

    @property
    def empty(self) -> bool:
        return not self._unsent_bytes

    def put(self, topic: str, record: OutgoingRecord) -> None:
        """Send ``record`` soon. Records of one key arrive in the order in which they were put."""
        lanes = self._lanes[topic]
        lane = lanes[zlib.crc32(record.key or b"") % len(lanes)]
        lane.waiting.append(record)
        self._unsent_bytes += record.size_bytes
        if not lane.under_way:
            self._wake.set()

    async def room(self) -> None:
        """Return when not `full`."""
        await self._until(lambda: not self.full)

    async def flush(self) -> None:
        """Return when everything was delivered."""
        await self._until(lambda: self.empty)

    async def run(self) -> None:
        """Send, for ever. Raises UnavailableError when Kafka refuses records for good."""
        while True:
            await self._wake.wait()
            # At once when it is quiet; what comes while something is under way gathers.
            await asyncio.sleep(LINGER_S if self._busy else 0)
            self._wake.clear()
            if self._failure is not None:
                raise UnavailableError(f"Kafka refuses records: {self._failure!r}")
            for lanes in self._lanes.values():
                for lane in lanes:
                    if lane.waiting and not lane.under_way:
                        await self._send(lane)

    @property
    def _busy(self) -> bool:
        return any(lane.under_way for lanes in self._lanes.values() for lane in lanes)

    async def _send(self, lane: _Lane) -> None:
        batch = self._producer.create_batch()
        while lane.waiting:
            record = lane.waiting[0]
            appended = batch.append(
                timestamp=record.timestamp_ms,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
            )
            if appended is None:
                break
            lane.under_way.append(lane.waiting.popleft())
        batch.close()
        delivery = await self._producer.send_batch(batch, lane.topic, partition=lane.partition)
        delivery.add_done_callback(lambda done: self._settle(lane, done))

    def _settle(self, lane: _Lane, delivery: "asyncio.Future[object]") -> None:
        if delivery.cancelled():
            return
        if (error := delivery.exception()) is not None:
            self._failure = error
            self._wake.set()
            return
        delivered, lane.under_way = lane.under_way, []
        self._unsent_bytes -= sum(record.size_bytes for record in delivered)
        self._change.set()
        if lane.waiting:
            self._wake.set()
        for record in delivered:
            if record.on_delivered is not None:
                record.on_delivered()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._change.clear()
            await self._change.wait()


async def close_producer(producer: AIOKafkaProducer, limit_s: float) -> None:
    """Disconnect, waiting at most ``limit_s`` for a Kafka that may be away."""
    try:
        await asyncio.wait_for(producer.stop(), limit_s)
    except (TimeoutError, KafkaError):
        return
