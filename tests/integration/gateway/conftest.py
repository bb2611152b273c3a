"""A gateway's settings on the run's Kafka and Postgres, and records to feed it with."""

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from gateway.ledger.projection import Request
from gateway.ledger.records import Report, Submission
from gateway.settings import GatewaySettings
from schemas import JobEvent

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
