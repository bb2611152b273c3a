"""A gateway's topics and database, seen from outside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from gateway.settings import GatewaySettings
from niyama import kafka
from schemas import JobControl, JobEvent, JobRequest, TopicSpec
from tests.support import ledger
from tests.support.records import TRACEPARENT

PATIENCE_S = 120.0
"""For what a busy machine does in seconds."""


class Wire:
    """Publishes to a gateway's topics as producers and workers do, and waits for the ledger."""

    def __init__(self, settings: GatewaySettings, postgres: asyncpg.Connection) -> None:
        self._settings = settings
        self._postgres = postgres
        self.kafka: AIOKafkaProducer = kafka.producer(settings)

    async def job(self, key: str | None = None, **changes: Any) -> UUID:
        """Publish a job; `changes` are fields of it."""
        job_id = uuid4()
        fields = {"job_id": job_id, "model": "m", "prompt": "p", "qos": "batch-1h"}
        job = JobRequest.model_validate(fields | changes)
        await self.raw(self._settings.topics.batch.name, job.to_bytes(), key=key)
        return job_id

    async def event(self, job_id: UUID, kind: str, **changes: Any) -> JobEvent:
        """Publish an event that happens now; `changes` are fields of it."""
        event = ledger.event(job_id, kind, datetime.now(UTC), **changes)
        topic, key = self._settings.topics.events.name, str(job_id).encode()
        partition = kafka.partition_of(key, len(await self.kafka.partitions_for(topic)))
        headers = [("traceparent", TRACEPARENT)]
        await self.kafka.send_and_wait(topic, event.to_bytes(), key, partition, headers=headers)
        return event

    async def raw(self, topic: str, value: bytes | None, key: UUID | str | None = None) -> None:
        headers = [("traceparent", TRACEPARENT)]
        encoded = str(key).encode() if key else None
        await self.kafka.send_and_wait(topic, value, key=encoded, headers=headers)

    async def cancel(self, job_id: UUID) -> None:
        """Ask for the job to be cancelled."""
        control = JobControl(job_id=job_id, requested_at=datetime.now(UTC))
        await self.raw(self._settings.topics.control.name, control.to_bytes(), key=job_id)

    async def delete_topic(self, topic: TopicSpec) -> None:
        """Return once Kafka has forgotten the topic, and this producer has."""
        await self.kafka.stop()
        async with asyncio.timeout(PATIENCE_S), kafka.admin(self._settings) as admin:
            await admin.delete_topics([topic.name])
            while topic.name in await admin.list_topics():
                await asyncio.sleep(0.1)
        self.kafka = kafka.producer(self._settings)
        await self.kafka.start()

    async def until_all_is_read(self) -> None:
        """Return once the ledger has every record that there is."""
        topics = self._settings.topics
        async with asyncio.timeout(PATIENCE_S), kafka.consumer(self._settings) as reader:
            left = 1
            while left:
                left = 0
                for topic in (*topics.jobs, topics.events, topics.control):
                    numbers = await self.kafka.partitions_for(topic.name)
                    parts = [TopicPartition(topic.name, number) for number in numbers]
                    left += sum((await reader.end_offsets(parts)).values())
                query = "SELECT coalesce(sum(next_offset), 0) FROM ledger_offsets"
                left -= await self._postgres.fetchval(query)
                await asyncio.sleep(0.02)

    async def until(self, query: str, *arguments: object) -> Any:
        """The first value of `query` once it is true."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := await self._postgres.fetchval(query, *arguments)):
                await asyncio.sleep(0.02)
        return value

    async def until_status(self, job_id: UUID, status: str) -> None:
        query = "SELECT true FROM jobs WHERE job_id = $1 AND status = $2"
        await self.until(query, job_id, status)


async def published(settings: GatewaySettings, topic: str) -> list[ConsumerRecord]:
    """All records of `topic` that a read-committed consumer gets."""
    async with asyncio.timeout(PATIENCE_S), _reading(settings, topic, "read_uncommitted") as reader:
        ends = await reader.end_offsets(reader.assignment())
    # Up to the ends that include what was just committed: its marker may come a moment later.
    records: list[ConsumerRecord] = []
    async with asyncio.timeout(PATIENCE_S), _reading(settings, topic, "read_committed") as reader:
        while any([await reader.position(each) < ends[each] for each in ends]):
            for batch in (await reader.getmany(timeout_ms=200)).values():
                records += batch
    return records


@asynccontextmanager
async def _reading(
    settings: GatewaySettings, topic: str, isolation_level: str
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions of `topic`."""
    reader = kafka.consumer(settings, topic, isolation_level=isolation_level)
    await reader.start()
    try:
        while not reader.assignment():
            await asyncio.sleep(0.05)
        yield reader
    finally:
        await reader.stop()
