"""Records for one partition, in the order in which they were put."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka.producer.message_accumulator import BatchBuilder

from workers.reporting.outgoing import OutgoingRecord


@dataclass(slots=True, eq=False)
class PartitionQueue:
    """What waits, and the batch that is being delivered: at most one, so order is kept."""

    partition: int
    waiting: deque[OutgoingRecord] = field(default_factory=deque)
    waiting_bytes: int = 0
    in_flight: list[OutgoingRecord] = field(default_factory=list)
    is_resting: bool = False
    """A batch has just failed: the next one is not sent immediately."""
    sent_singly: int = 0
    """So many records from the front are sent one by one: together they were refused."""

    @property
    def is_ready(self) -> bool:
        return bool(self.waiting) and not self.in_flight and not self.is_resting

    def put(self, record: OutgoingRecord) -> None:
        self.waiting.append(record)
        self.waiting_bytes += record.size_bytes

    def take(self) -> OutgoingRecord:
        """Remove the oldest record that waits."""
        record = self.waiting.popleft()
        self.waiting_bytes -= record.size_bytes
        return record

    def put_back(self, records: Iterable[OutgoingRecord]) -> None:
        """Records that were not delivered wait again, before all others."""
        for record in reversed(list(records)):
            self.waiting.appendleft(record)
            self.waiting_bytes += record.size_bytes

    def fill(self, batch: BatchBuilder) -> list[OutgoingRecord]:
        """Move records into `batch`, which always has room for the first of them.

        Returns those that are superseded, and taken out of the queue without being sent.
        """
        superseded = []
        limit = 1 if self.sent_singly else len(self.waiting)
        while self.waiting and len(self.in_flight) < limit:
            is_superseded = self.waiting[0].is_superseded
            if is_superseded is not None and is_superseded():
                superseded.append(self.take())
            elif _append(batch, self.waiting[0]):
                self.in_flight.append(self.take())
            else:
                break
        self.sent_singly -= bool(self.sent_singly)
        batch.close()
        return superseded

    def settle(self) -> list[OutgoingRecord]:
        """The batch is delivered, or has failed: its records."""
        settled, self.in_flight = self.in_flight, []
        return settled


def _append(batch: BatchBuilder, record: OutgoingRecord) -> bool:
    appended = batch.append(
        timestamp=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
    )
    return appended is not None
