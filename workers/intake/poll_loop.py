"""Reading jobs from Kafka. The loop never waits for a generation, only for records."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from niyama.kafka import ConsumedRecord
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.offsets.partitions import Partitions
from workers.offsets.tracked_record import TrackedRecord

POLL_MS = 200
POLL_RECORDS = 200
WRITE_AHEAD_S = 10.0
"""For this long after partitions were assigned, attempts are committed before they start: whatever
killed their last owner would otherwise kill one worker after the other without leaving a trace."""
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
        max_attempts: int,
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._flow = flow
        self._dispatcher = dispatcher
        self._max_attempts = max_attempts
        self._write_ahead_until_s = math.inf

    def rebalanced(self) -> None:
        """Partitions were assigned, all of them paused."""
        self._write_ahead_until_s = time.monotonic() + WRITE_AHEAD_S
        self._flow.rebalanced()

    def close(self) -> None:
        """Take nothing more."""
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
        return time.monotonic() < self._write_ahead_until_s

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
            # A job on its last chance waits for its turn, and is committed then.
            is_last_chance = tracked.pending.history.is_last_chance(self._max_attempts)
            tracked.pending.attempt_counts = not is_last_chance
        await self._partitions.commit()
        for tracked in taken:
            self._dispatcher.dispatch(tracked)
