"""Reading jobs from Kafka. The loop never waits for a generation, only for records."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from niyama.kafka import ConsumedRecord
from schemas import PoolTopics
from workers.execution.in_flight import Roster
from workers.intake.backpressure import SHUT, Limits, Open, next_open
from workers.offsets.partitions import Partitions
from workers.offsets.watermark import Flight, PartitionProgress

POLL_MS = 200
POLL_RECORDS = 200
CAUTIOUS_POLL_RECORDS = 20
CAUTIOUS_S = 10.0
"""For so long after partitions came, work is on record before it is begun: whatever made their
last owner die would otherwise make one worker after the other die without a trace."""

Accept = Callable[[ConsumedRecord, Flight, PartitionProgress], None]
Taken = tuple[ConsumedRecord, Flight, PartitionProgress]
Batches = Mapping[TopicPartition, Sequence[ConsumedRecord]]


class Sink(Protocol):
    """Where reports go."""

    @property
    def full(self) -> bool: ...


class Intake:
    """Takes records, hands each to ``accept``, and pauses topics of which enough is in hand."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Partitions,
        roster: Roster,
        reports: Sink,
        accept: Accept,
        topics: PoolTopics,
        limits: Limits,
        *,
        max_attempts: int,
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._roster = roster
        self._reports = reports
        self._accept = accept
        self._topics = topics
        self._limits = limits
        self._max_attempts = max_attempts
        self._open = Open()
        self._closed = False
        self._paused: set[TopicPartition] = set()
        self._cautious_until_s = math.inf

    def rebalanced(self) -> None:
        """Partitions have come, all of them paused."""
        self._cautious_until_s = time.monotonic() + CAUTIOUS_S
        self._paused = set(self._consumer.assignment())
        self._open = SHUT
        self.steer()

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True
        self.steer()

    async def run(self) -> None:
        """Take records, for ever."""
        while True:
            most = CAUTIOUS_POLL_RECORDS if self._is_cautious() else POLL_RECORDS
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=most)
            if self._is_cautious():
                await self._take_on_record(batches)
            else:
                for taken in self._take(batches):
                    self._accept(*taken)
                    self.steer()
            self.steer(every_partition=True)

    def steer(self, *, every_partition: bool = False) -> None:
        """Pause and resume. Cheap when nothing changed, so it is called whenever work ends."""
        wanted = self._wanted()
        if wanted == self._open and not every_partition:
            return
        self._open = wanted
        is_open = {
            self._topics.interactive.name: wanted.interactive,
            self._topics.batch.name: wanted.batch,
            self._topics.relegated.name: wanted.relegated,
        }
        for tp, progress in self._partitions:
            self._set(tp, paused=not (is_open[tp.topic] and progress.fits))

    def _wanted(self) -> Open:
        if self._closed or self._reports.full:
            return SHUT
        topics, load = self._topics, self._roster.load
        return next_open(
            self._limits,
            load(topics.interactive.name),
            load(topics.batch.name),
            load(topics.relegated.name),
            self._open,
        )

    def _set(self, tp: TopicPartition, *, paused: bool) -> None:
        if paused == (tp in self._paused):
            return
        if paused:
            self._consumer.pause(tp)
            self._paused.add(tp)
        else:
            self._consumer.resume(tp)
            self._paused.discard(tp)

    def _is_cautious(self) -> bool:
        return time.monotonic() < self._cautious_until_s

    def _take(self, batches: Batches) -> Iterator[Taken]:
        for tp, records in batches.items():
            progress = self._partitions.get(tp)
            if progress is None:  # taken away meanwhile, or not known yet: read again later
                continue
            for record in records:
                if tp in self._paused:  # one before it was enough
                    self._consumer.seek(tp, record.offset)
                    break
                flight = progress.take(record.offset)
                if flight is not None:
                    yield record, flight, progress

    async def _take_on_record(self, batches: Batches) -> None:
        taken = list(self._take(batches))
        if not taken:
            return
        for _, flight, _ in taken:
            flight.begun = not flight.history.is_last_chance(self._max_attempts)
        await self._partitions.commit()
        for record, flight, progress in taken:
            self._accept(record, flight, progress)
