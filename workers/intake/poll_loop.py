"""Reading jobs from Kafka. The loop never waits for a generation, only for records."""

from collections.abc import Callable, Iterator, Sequence

from aiokafka import AIOKafkaConsumer

from niyama.kafka import ConsumedRecord
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.offsets.partitions import Partitions
from workers.offsets.reading import Reading
from workers.offsets.tracked_record import TrackedRecord

POLL_MS = 200
POLL_RECORDS = 200
WRITE_AHEAD_RECORDS = 20
"""Attempts that share a commit, where attempts are committed before they start."""
UNCOMMITTED_RECORDS = 2000
"""Assumed to be the most that a worker takes from a partition between two commits: beyond it, an
attempt lost in a crash may not be counted."""


class PollLoop:
    """Takes records and dispatches each of them."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Partitions,
        flow: FlowControl,
        dispatcher: Dispatcher,
        on_read: Callable[[str, int], None],
    ) -> None:
        """`on_read` is told of each topic how many records came."""
        self._consumer = consumer
        self._partitions = partitions
        self._flow = flow
        self._dispatcher = dispatcher
        self._on_read = on_read

    def rebalanced(self) -> None:
        """Partitions were assigned, all of them paused."""
        self._flow.rebalanced()

    def close(self) -> None:
        """Take no more records."""
        self._flow.stop()

    async def run(self) -> None:
        """Take records until cancelled."""
        while True:
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            fetched = [(self._partitions.reading(tp), records) for tp, records in batches.items()]
            for reading, records in fetched:
                self._on_read(records[0].topic, len(records))
                if reading is None or not self._partitions.is_current(reading):
                    continue
                if records[0].offset < self._first_new(reading, records[0].offset):
                    await self._write_ahead(reading, records)
                else:
                    for tracked in self._take(reading, records):
                        self._dispatcher.dispatch(tracked)
                        self._flow.update()
            self._flow.update_partitions()

    def _first_new(self, reading: Reading, offset: int) -> int:
        """The first offset that no dead worker can have taken; `offset` is read now.

        One that has died since its last commit may have taken some records after that, as far as
        they were there.
        """
        if reading.first_new is None:
            end = self._consumer.highwater(reading.partition)
            taken = max(offset, reading.progress.position) + UNCOMMITTED_RECORDS
            reading.first_new = taken if end is None else min(taken, end)
        return reading.first_new

    def _take(self, reading: Reading, records: Sequence[ConsumedRecord]) -> Iterator[TrackedRecord]:
        since_s = self._flow.reading_since_s(reading.partition)
        for record in records:
            if self._flow.is_paused(reading.partition):  # an earlier record was enough
                self._consumer.seek(reading.partition, record.offset)
                return
            pending = reading.progress.take(record.offset)
            if pending is not None:
                yield TrackedRecord(record, pending, reading.progress, since_s)

    async def _write_ahead(self, reading: Reading, records: Sequence[ConsumedRecord]) -> None:
        """Commit that attempts are starting, then start them.

        Whatever killed the last owner of the partition would otherwise kill one worker after
        another without leaving a trace.
        """
        for start in range(0, len(records), WRITE_AHEAD_RECORDS):
            some = records[start : start + WRITE_AHEAD_RECORDS]
            if not self._partitions.is_current(reading):
                return
            if self._flow.is_paused(reading.partition):
                self._consumer.seek(reading.partition, some[0].offset)
                return
            have_started = [
                await self._start_committed(group)
                for group in _suspects_first(list(self._take(reading, some)))
            ]
            if not all(have_started):
                return

    async def _start_committed(self, group: Sequence[TrackedRecord]) -> bool:
        """False: an earlier one was enough, and the others are to be read again."""
        if not self._flow.is_paused(group[0].partition):
            for tracked in group:
                tracked.pending.expose_ahead()
            await self._partitions.write_ahead(group)
        have_started = True
        for tracked in group:
            if not self._partitions.owns(tracked):  # its partition has moved meanwhile
                continue
            if self._flow.is_paused(tracked.partition) and not tracked.pending.is_orphan:
                self._put_back(tracked)
                have_started = False
            else:
                self._dispatcher.dispatch(tracked)
                self._flow.update()
        return have_started

    def _put_back(self, tracked: TrackedRecord) -> None:
        tracked.put_back()
        self._consumer.seek(tracked.partition, tracked.progress.resume_at)
        self._partitions.commit_soon()  # that no attempt has started


def _suspects_first(taken: Sequence[TrackedRecord]) -> list[list[TrackedRecord]]:
    """Groups that are started together: suspects are decoded one by one, before the others."""
    suspects = [[each] for each in taken if each.pending.history.is_suspect]
    others = [each for each in taken if not each.pending.history.is_suspect]
    return [*suspects, others] if others else suspects
