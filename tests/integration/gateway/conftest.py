"""A gateway's settings on the run's Kafka and Postgres, and records to feed it with."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from gateway.ledger.projection import Request
from gateway.ledger.records import Report, Submission
from gateway.settings import GatewaySettings
from niyama import kafka
from schemas import JobEvent, JobRequest

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture
def settings(
    kafka_bootstrap: str, topic_prefix: str, pool: str, database_url: str
) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap=kafka_bootstrap,
        topic_prefix=topic_prefix,
        pool=pool,
        topic_partitions=2,
        database_url=database_url,
        api_port=0,
    )


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
def submission() -> Callable[..., Submission]:
    """Makes the ledger's entry of a published job."""
    offsets = itertools.count()

    def make(job_id: UUID, **changes: Any) -> Submission:
        request = {
            "arrived_at": START,
            "pool": "tiny",
            "source_topic": "jobs",
            "source_partition": 0,
            "source_offset": next(offsets),
            "request_sha256": b"digest",
            "model": "m",
            "kind": "batch",
            "metadata": {"a": "b"},
        }
        return Submission(job_id, Request(**request | changes))

    return make


@pytest.fixture
def report() -> Callable[..., Report]:
    """Makes the ledger's entry of a worker's event."""

    def make(job_id: UUID, kind: str, second: float = 0, **changes: Any) -> Report:
        fields = {
            "event_id": uuid4(),
            "job_id": job_id,
            "type": kind,
            "at": START + timedelta(seconds=second),
            "attempt": 1,
            "worker_id": "worker-1",
            "pool": "tiny",
        }
        event = JobEvent.model_validate(fields | changes)
        return Report(event, event.to_bytes(), [("traceparent", b"00-1-2-01")])

    return make


class Wire:
    """Publishes to a gateway's topics as producers and workers do, and waits for the ledger."""

    def __init__(self, settings: GatewaySettings, postgres: asyncpg.Connection) -> None:
        self._settings = settings
        self._postgres = postgres
        self.kafka: AIOKafkaProducer = kafka.producer(settings)

    async def job(self, **changes: Any) -> UUID:
        fields = {"job_id": uuid4(), "model": "m", "prompt": "p", "qos": "batch-1h"}
        job = JobRequest.model_validate(fields | changes)
        await self.raw(self._settings.topics.batch.name, job.to_bytes())
        assert job.job_id is not None
        return job.job_id

    async def event(self, job_id: UUID, kind: str, **changes: Any) -> JobEvent:
        fields = {
            "event_id": uuid4(),
            "job_id": job_id,
            "type": kind,
            "at": datetime.now(UTC),
            "attempt": 1,
            "worker_id": "worker-1",
            "pool": self._settings.pool,
        }
        event = JobEvent.model_validate(fields | changes)
        await self.raw(self._settings.topics.events.name, event.to_bytes(), key=job_id)
        return event

    async def raw(self, topic: str, value: bytes | None, key: UUID | None = None) -> None:
        headers = [("traceparent", b"00-1-2-01")]
        encoded = str(key).encode() if key else None
        await self.kafka.send_and_wait(topic, value, key=encoded, headers=headers)

    async def until(self, query: str, *arguments: object, timeout_s: float = 15) -> Any:
        """The first value of ``query`` once it is true."""
        async with asyncio.timeout(timeout_s):
            while not (value := await self._postgres.fetchval(query, *arguments)):
                await asyncio.sleep(0.02)
        return value

    async def until_status(self, job_id: UUID, status: str) -> None:
        query = "SELECT true FROM jobs WHERE job_id = $1 AND status = $2"
        await self.until(query, job_id, status)


@pytest.fixture
async def wire(settings: GatewaySettings, postgres: asyncpg.Connection) -> AsyncIterator[Wire]:
    await kafka.ensure_topics(settings, settings.topics.all)
    wire = Wire(settings, postgres)
    await wire.kafka.start()
    yield wire
    await wire.kafka.stop()
