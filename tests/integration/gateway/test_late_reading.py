"""Whose job it is does not depend on when a gateway reads its records, nor which one does."""

import math
import time
from uuid import uuid4

import asyncpg
import pytest

from gateway.ledger import catch_up, consumer
from gateway.settings import GatewaySettings
from schemas import JobRequest
from tests.support.consuming import consuming
from tests.support.wire import Wire

JOBS = 5
RESULT = {"text": "own", "finish_reason": "stop"}
DUPLICATE = {"code": "duplicate_job_id", "message": "the record in another topic came before"}
OWNED = "SELECT count(*) = $1 FROM jobs WHERE tenant = 'owner' AND status = 'completed'"
BLOCKED = (
    "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'ledger_offsets'::regclass AND NOT granted"
)


async def publish(settings: GatewaySettings, wire: Wire) -> None:
    """Jobs, and for each a later record with its id, which the worker refuses."""
    topics = [settings.topics.relegated.name, settings.topics.batch.name]
    arrives_ms = int(time.time() * 1000)
    for _ in range(JOBS):
        job_id = uuid4()
        sources = []
        topics.reverse()
        for topic, tenant in zip(topics, ("owner", "thief"), strict=True):
            job = JobRequest(job_id=job_id, model="m", prompt="p", qos="batch-1h", tenant=tenant)
            arrives_ms += 1  # a fast broker takes two records in one millisecond
            sent = await wire.kafka.send_and_wait(
                topic, job.to_bytes(), str(job_id).encode(), timestamp_ms=arrives_ms
            )
            sources.append({"topic": topic, "partition": sent.partition, "offset": sent.offset})
        own, other = sources
        await wire.event(job_id, "failed", source=other, error=DUPLICATE)
        await wire.event(job_id, "completed", source=own, result=RESULT)


@pytest.fixture(autouse=True)
def _record_by_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll has one record of one partition, whichever was fetched first. A backlog of jobs is
    read together, however slow the machine."""
    monkeypatch.setattr(consumer, "POLL_RECORDS", 1)
    monkeypatch.setattr(catch_up, "TOGETHER_S", 60.0)


async def test_the_first_record_is_the_job_after_an_outage(
    settings: GatewaySettings, wire: Wire
) -> None:
    await publish(settings, wire)

    async with consuming(settings):
        await wire.until(OWNED, JOBS)


async def test_the_first_record_is_the_job_after_a_stall(
    settings: GatewaySettings,
    wire: Wire,
    postgres: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "STALL_S", math.inf)
    async with consuming(settings):
        job_id = await wire.job()
        await wire.event(job_id, "started")
        await wire.until_status(job_id, "running")
        async with postgres.transaction():  # nothing can be written meanwhile
            await postgres.execute("LOCK TABLE ledger_offsets")
            monkeypatch.setattr(consumer, "STALL_S", 0.0)
            await wire.until(BLOCKED)
            await publish(settings, wire)
        await wire.until(OWNED, JOBS)
