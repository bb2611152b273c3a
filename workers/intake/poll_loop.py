"""Reading jobs from Kafka. The loop never waits for a generation, only for records."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from niyama.kafka import ConsumedRecord
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.offsets.attempts import CrashLimit
from workers.offsets.partitions import Partitions
from workers.offsets.tracked_record import TrackedRecord

POLL_MS = 200
POLL_RECORDS = 200
WRITE_AHEAD_S = 10.0
"""For this long after partitions were assigned, attempts are committed before they start: whatever
killed their last owner would otherwise kill one worker after another without leaving a trace."""
WRITE_AHEAD_POLL_RECORDS = 20

Batches = Mapping[TopicPartition, Sequence[ConsumedRecord]]


class PollLoop:
    """Takes records and dispatches each of them."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Partitions,
        flow: FlowControl,
        dispatcher: Dispatcher,
        *,
        crash_limit: CrashLimit,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives monotonic seconds."""
        self._consumer = consumer
        self._partitions = partitions
        self._flow = flow
        self._dispatcher = dispatcher
        self._crash_limit = crash_limit
        self._clock = clock
        self._write_ahead_until_s = math.inf

    def rebalanced(self) -> None:
        """Partitions were assigned, all of them paused."""
        self._write_ahead_until_s = self._clock() + WRITE_AHEAD_S
        self._flow.rebalanced()

    def close(self) -> None:
        """Take no more records."""
        self._flow.stop()

    async def run(self) -> None:
        """Take records until cancelled."""
        while True:
            max_records = WRITE_AHEAD_POLL_RECORDS if self._writes_ahead() else POLL_RECORDS
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=max_records)
            if self._writes_ahead():
                await self._write_ahead(batches)
            else:
                for tracked in self._take(batches):
                    self._dispatcher.dispatch(tracked)
                    self._flow.update()
            self._flow.update_partitions()

    def _writes_ahead(self) -> bool:
        return self._clock() < self._write_ahead_until_s

    def _take(self, batches: Batches) -> Iterator[TrackedRecord]:
        for tp, records in batches.items():
            progress = self._partitions.get(tp)
            if progress is None:  # revoked meanwhile, or not assigned yet: it is read again later
                continue
            for record in records:
                if self._flow.is_paused(tp):  # an earlier record of this batch was enough
                    self._consumer.seek(tp, record.offset)
                    break
                pending = progress.take(record.offset)
                if pending is not None:
                    yield TrackedRecord(record, pending, progress)

    async def _write_ahead(self, batches: Batches) -> None:
        """Commit that attempts are starting, then start them."""
        taken = list(self._take(batches))
        if not taken:
            return
        for tracked in taken:
            tracked.pending.count_ahead(self._crash_limit)
        await self._partitions.commit()
        for tracked in taken:
            self._dispatcher.dispatch(tracked)
