"""One pass over the open jobs that no worker will report on.

- A job that was cancelled while it was queued ends as cancelled.
- A queued job whose record is not in Kafka any more ends as failed: nobody can run it.
- An open job of which the workers say that they are done with it is marked as abandoned.

All of these follow from what the ledger has *not* read. So each decision waits until the ledger has
read the events up to what is their end now. A decision is an event in the log (`own_events`); it
takes effect when the ledger reads it back.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gateway.database import connect
from gateway.ledger import open_jobs, own_events
from gateway.ledger.open_jobs import FIRST, LogRange
from gateway.ledger.positions import Offsets, each_offset, read_offsets
from gateway.settings import GatewaySettings
from niyama import kafka
from schemas import JobEvent
from schemas.topics import record_key

log = logging.getLogger(__name__)

LAG_TIMEOUT_S = 10.0
LAG_POLL_S = 0.1
SEND_TIMEOUT_MS = 15_000

RETAINED = "Kafka deleted it when the topic's retention time was over"
TRUNCATED = "the topic was truncated, or deleted and recreated"
_UNKNOWN_END = 2**63 - 1


@contextlib.asynccontextmanager
async def connected(settings: GatewaySettings) -> AsyncIterator["Reconciliation"]:
    """Raises KafkaError, and what asyncpg raises."""
    connection = await connect(settings, "reconciler")
    try:
        async with (
            kafka.consumer(settings) as consumer,
            kafka.producer(settings, request_timeout_ms=SEND_TIMEOUT_MS) as producer,
        ):
            yield Reconciliation(settings, connection, consumer, producer)
    finally:
        connection.terminate()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the open jobs found in Kafka, for the next one to compare with."""

    ends: Offsets = field(default_factory=dict)
    missing: Collection[TopicPartition] = ()
    """Partitions of open jobs that it does not have."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Its methods raise KafkaError, and what asyncpg raises; all may be repeated."""

    settings: GatewaySettings
    connection: asyncpg.Connection
    consumer: AIOKafkaConsumer
    producer: AIOKafkaProducer

    async def cancel_queued(self) -> bool:
        """End queued jobs that were cancelled. Returns whether that was possible for all."""
        after, all_ended = FIRST, True
        waited_for: set[TopicPartition] = set()
        read: set[TopicPartition] = set()
        while page := await open_jobs.to_cancel(self.connection, after):
            after = page[-1]["job_id"]
            job_ids = [job["job_id"] for job in page]
            parts = {job_id: await self._events_of(job_id) for job_id in job_ids}
            # Once in a pass: one without a leader costs seconds, and has jobs on every page.
            read |= await self._wait_until_read(set(parts.values()) - waited_for)
            waited_for.update(parts.values())
            known = [job_id for job_id in job_ids if parts[job_id] in read]
            jobs = await open_jobs.still_to_cancel(self.connection, known)
            await self._publish([own_events.cancelled_while_queued(job) for job in jobs])
            all_ended = all_ended and len(known) == len(page)
        return all_ended

    async def take_turn(self, interval: timedelta) -> bool:
        """Whether this gateway is the one of the pool to look at open jobs in this interval."""
        task = f"reconciliation of {self.settings.pool}"
        return await open_jobs.take_turn(self.connection, task, interval)

    async def look_at_open_jobs(self, before: Seen) -> Seen:
        """Settle or mark those of this pool. `before` is what the last look returned."""
        topics = self.settings.topics
        parts = [part for spec in topics.jobs for part in await self._partitions(spec.name)]
        finished = await self._finished_by_workers(parts)
        beginnings = await each_offset(self.consumer.beginning_offsets, parts)
        ends = await each_offset(self.consumer.end_offsets, parts)
        events = await self._partitions(topics.events.name)
        if await self._wait_until_read(events) != set(events):
            return before
        for part in beginnings.keys() & ends.keys():
            # The further of two ends, because a new leader may not know its own for a moment.
            end = max(ends[part], before.ends.get(part, _UNKNOWN_END))
            await self._fail_without_record(part, LogRange(beginnings[part], end))
        missing = await self._missing(parts)
        # Twice in a row: a broker that has just started may not know yet of new partitions.
        for part in missing.intersection(before.missing):
            await self._fail_without_record(part, LogRange(0, 0))
        # What is committed beyond the end was committed in an earlier topic of the same name.
        await self._mark_abandoned(
            {part: until for part, until in finished.items() if until <= ends.get(part, 0)}
        )
        return Seen(ends, missing)

    async def _missing(self, parts: Collection[TopicPartition]) -> set[TopicPartition]:
        """The partitions of open jobs beyond `parts`: their topic was recreated with fewer."""
        missing: set[TopicPartition] = set()
        for topic, count in Counter(part.topic for part in parts).items():
            missing |= await open_jobs.partitions_from(self.connection, topic, count)
        return missing

    async def _fail_without_record(self, part: TopicPartition, had: LogRange) -> None:
        """`had`: the offsets that the partition had before the ledger read the events."""
        after = FIRST
        while page := await open_jobs.without_record(self.connection, part, had, after):
            after = page[-1]["job_id"]
            # Looked up after the page was read, or jobs that arrived since would count as lost.
            has = await self._grown(part, had)
            lost = [job for job in page if job["source_offset"] not in has]
            if lost:
                log.warning("the records of %d queued jobs are gone from %s/%d", len(lost), *part)
            now = datetime.now(UTC)
            events = []
            for job in lost:
                how = RETAINED if job["source_offset"] < has.beginning else TRUNCATED
                events.append(own_events.record_deleted(job, now, how))
            await self._publish(events)

    async def _grown(self, part: TopicPartition, had: LogRange) -> LogRange:
        """What the partition has now, and `had` before."""
        if not await self._exists(part):
            return had
        beginnings = await each_offset(self.consumer.beginning_offsets, [part])
        ends = await each_offset(self.consumer.end_offsets, [part])
        return LogRange(
            min(had.beginning, beginnings.get(part, 0)),
            max(had.end, ends.get(part, _UNKNOWN_END)),
        )

    async def _exists(self, part: TopicPartition) -> bool:
        """Whether Kafka has the partition now, or does not say."""
        async with kafka.admin(self.settings) as admin:
            (topic,) = await admin.describe_topics([part.topic])
        numbers = {each["partition"] for each in topic["partitions"]}
        return bool(topic["error_code"]) or part.partition in numbers

    async def _mark_abandoned(self, finished: Offsets) -> None:
        marked = 0
        for part, until in finished.items():
            while count := await open_jobs.abandon(self.connection, part, until):
                marked += count
        if marked:
            log.warning(
                "%d open jobs are abandoned: workers are done with their records, and no event "
                "says how they ended (`abandoned_at` in the API)",
                marked,
            )

    async def _finished_by_workers(self, parts: Collection[TopicPartition]) -> Offsets:
        """Of each partition, the offset below which the workers are done with everything."""
        async with kafka.admin(self.settings) as admin:
            committed = await kafka.committed_offsets(admin, self.settings.workers_group, parts)
        return {part: each.offset for part, each in committed.items() if each.offset > 0}

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        numbers = await self.producer.partitions_for(topic)
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    async def _events_of(self, job_id: UUID) -> TopicPartition:
        """Where the events of a job are, those of its workers too."""
        parts = await self._partitions(self.settings.topics.events.name)
        return parts[kafka.partition_of(record_key(job_id), len(parts))]

    async def _wait_until_read(self, parts: Collection[TopicPartition]) -> set[TopicPartition]:
        """Those of `parts` of which the ledger, before long, has all that they have now."""
        ends = await each_offset(self.consumer.end_offsets, parts)
        give_up_s = time.monotonic() + LAG_TIMEOUT_S
        while True:
            positions = await read_offsets(self.connection, ends)
            read = {part for part, end in ends.items() if positions.get(part, 0) >= end}
            if len(read) == len(ends) or time.monotonic() >= give_up_s:
                return read
            await asyncio.sleep(LAG_POLL_S)

    async def _publish(self, events: Sequence[JobEvent]) -> None:
        """Return once Kafka has the events."""
        sent = []
        for event in events:
            part, key = await self._events_of(event.job_id), record_key(event.job_id)
            send = self.producer.send(part.topic, event.to_bytes(), key, partition=part.partition)
            sent.append(await send)
        await asyncio.gather(*sent)
