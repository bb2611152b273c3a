"""Records on their way to one topic, sent in batches.

`AIOKafkaProducer.send` costs a coroutine and a future per record. Here records are only appended
to a list; one task sends whatever has accumulated as one batch per partition. At most one batch
of a partition is in flight, so records with the same key stay in order, and the next batch grows
meanwhile.

The producer is not idempotent: once one of its batches has failed, Kafka would refuse every later
batch of that partition, as sequence numbers would be missing. So a batch whose acknowledgement
was lost may be written twice. Events have ids, chunks of tokens a position, dead letters a source.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from niyama.kafka import partition_of
from workers.reporting.outgoing import OutgoingRecord
from workers.reporting.partition_queue import PartitionQueue

log = logging.getLogger(__name__)

LINGER_S = 0.003
REST_S = 0.5
"""Between a batch that failed and the next one of its partition."""
Allowed = Callable[[], Awaitable[None]]
"""Returns when a batch may be sent."""
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class TopicSender(ABC):
    """Sends to one topic with a producer of its own. `run` must be running.

    What its subclasses decide is how much may wait, and what becomes of records that Kafka does
    not take.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        """The producer is started before `open`."""
        self.topic = topic
        self.delivered = 0
        """Records that Kafka has acknowledged."""
        self.given_up = 0
        """Records that were not delivered, and will not be."""
        self._producer = producer
        self._queues: list[PartitionQueue] = []
        self._unsent_bytes = 0
        self._wake = asyncio.Event()
        self._change = asyncio.Event()
        self._failure: BaseException | None = None

    async def open(self) -> None:
        """Learn the topic's partitions. Raises KafkaError."""
        self._partitions_are(await self._producer.partitions_for(self.topic))

    @property
    def empty(self) -> bool:
        return not self._unsent_bytes

    @property
    def unsent_bytes(self) -> int:
        return self._unsent_bytes

    def put(self, record: OutgoingRecord) -> None:
        """Queue `record`. Records with the same key arrive in the order of their `put`."""
        queue = self._queue_of(record)
        queue.put(record)
        self._unsent_bytes += record.size_bytes
        self._make_room(queue)
        if queue.is_ready:
            self._wake.set()

    async def flush(self) -> None:
        """Return when nothing is left to deliver."""
        await self._until(lambda: self.empty)

    async def run(self, allowed: Allowed) -> None:
        """Send until cancelled; `allowed` is awaited before each batch.

        Raises what `_undeliverable` raised.
        """
        while True:
            await self._wake.wait()
            # Immediately when idle; otherwise let records accumulate while a batch is in flight.
            is_idle = not any(queue.in_flight for queue in self._queues)
            await asyncio.sleep(0 if is_idle else LINGER_S)
            self._wake.clear()
            if self._failure is not None:
                raise self._failure
            for queue in self._queues:
                if queue.is_ready:
                    await self._send(queue, allowed)

    # ---- what subclasses decide

    @abstractmethod
    def _make_room(self, queue: PartitionQueue) -> None:
        """A record was put."""

    @abstractmethod
    def _is_temporary(self, error: KafkaError) -> bool:
        """Whether to send the same records again, for as long as it takes."""

    @abstractmethod
    def _undeliverable(self, records: Sequence[OutgoingRecord], error: KafkaError) -> None:
        """Kafka does not take these records, one of them at least. What this raises, `run` does."""

    # ---- delivery

    async def _send(self, queue: PartitionQueue, allowed: Allowed) -> None:
        await allowed()
        batch = self._producer.create_batch()
        self._finish(queue.fill(batch))
        if not queue.in_flight:
            return
        try:
            partitions = await self._producer.partitions_for(self.topic)
            if queue.partition not in partitions:  # the topic was recreated
                self._partitions_are(partitions)
                return
            delivery = await self._producer.send_batch(batch, self.topic, partition=queue.partition)
        except KafkaError as error:
            self._failed(queue, error)
        else:
            delivery.add_done_callback(partial(self._settled, queue))

    def _settled(self, queue: PartitionQueue, delivery: "asyncio.Future[object]") -> None:
        cancelled = KafkaConnectionError("the delivery was cancelled")
        error = cancelled if delivery.cancelled() else delivery.exception()
        if error is None:
            delivered = queue.settle()
            self.delivered += len(delivered)
            self._finish(delivered)
        elif isinstance(error, KafkaError):
            self._failed(queue, error)
        else:
            self._failed(queue, KafkaError(repr(error)))
        if queue.is_ready:
            self._wake.set()

    def _failed(self, queue: PartitionQueue, error: KafkaError) -> None:
        records = queue.settle()
        if not records:  # the topic was recreated meanwhile: they are in other queues
            return
        if isinstance(error, TOO_LARGE):
            self._too_large(queue, records, error)
        elif self._is_temporary(error):
            log.info("%s/%d: %r; sending again", self.topic, queue.partition, error)
            queue.put_back(records)
        else:
            self._give_up(records, error)
        queue.is_resting = True
        asyncio.get_running_loop().call_later(REST_S, self._rested, queue)

    def _too_large(
        self, queue: PartitionQueue, records: list[OutgoingRecord], error: KafkaError
    ) -> None:
        """Find out which record it is, and send a smaller one in its place."""
        if len(records) > 1:
            queue.sent_singly = len(records)
            queue.put_back(records)
        elif (smaller := records[0].smaller) is not None:
            replacement = smaller()
            self._unsent_bytes += replacement.size_bytes - records[0].size_bytes
            queue.sent_singly += 1
            queue.put_back([replacement])
        else:
            self._give_up(records, error)

    def _give_up(self, records: Sequence[OutgoingRecord], error: KafkaError) -> None:
        try:
            self._undeliverable(records, error)
        except Exception as failure:
            self._failure = failure
            self._wake.set()

    def _finish(self, records: Sequence[OutgoingRecord]) -> None:
        """The records need no more care."""
        self._unsent_bytes -= sum(record.size_bytes for record in records)
        self._change.set()
        for record in records:
            if record.on_delivered is not None:
                try:
                    record.on_delivered()
                except Exception:  # of this record, not of those after it
                    log.exception("the callback of a record delivered to %s failed", self.topic)

    def _rested(self, queue: PartitionQueue) -> None:
        queue.is_resting = False
        self._wake.set()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._change.clear()
            await self._change.wait()

    # ---- partitions

    def _queue_of(self, record: OutgoingRecord) -> PartitionQueue:
        return self._queues[partition_of(record.key, len(self._queues))]

    def _partitions_are(self, partitions: set[int]) -> None:
        """Spread what waits over these partitions, in order."""
        before = self._queues
        self._queues = [PartitionQueue(partition) for partition in sorted(partitions)]
        for queue in before:
            queue.put_back(queue.settle())
            while queue.waiting:
                record = queue.take()
                self._queue_of(record).put(record)
        self._wake.set()
