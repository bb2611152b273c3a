"""The ledger's consumer on the real Kafka and the real Postgres."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gateway.database import engine
from gateway.ledger import consumer
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.counts import LedgerCounts
from gateway.ledger.dead_letters import DeadLetters
from gateway.metrics import LedgerMetrics, observe, observe_counts
from gateway.settings import GatewaySettings
from niyama.telemetry.measurements import Measurements
from schemas import JobEvent, headers
from tests.support.consuming import consuming, consuming_and_reconciling
from tests.support.metrics import numbers
from tests.support.wire import PATIENCE_S, Wire, published


async def until_ready(*consumers: LedgerConsumer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not all(consumer.ready for consumer in consumers):
            await asyncio.sleep(0.05)


async def test_a_job_and_its_events_become_a_row(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    async with consuming(settings):
        job_id = await wire.job(tenant="acme", reply_topic="answers")
        await wire.until_status(job_id, "queued")
        await wire.event(job_id, "admitted")
        await wire.until_status(job_id, "admitted")
        end = await wire.event(job_id, "completed", result={"text": "Hi", "finish_reason": "stop"})
        await wire.until_status(job_id, "completed")

    job = await postgres.fetchrow("SELECT * FROM jobs WHERE job_id = $1", job_id)
    assert job is not None
    assert (job["tenant"], job["qos_class"], job["finished_at"]) == ("acme", "batch-1h", end.at)
    assert await postgres.fetchval("SELECT reply_topic FROM reply_outbox") == "answers"


async def test_what_was_published_while_no_gateway_ran_is_caught_up_once(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    jobs = [await wire.job() for _ in range(5)]
    for job_id in jobs:
        await wire.event(job_id, "relegated")
    async with consuming(settings):
        await wire.until("SELECT count(*) = 5 FROM jobs WHERE relegations = 1")
    for job_id in jobs:
        await wire.event(job_id, "completed")

    async with consuming(settings):
        await wire.until("SELECT count(*) = 5 FROM jobs WHERE status = 'completed'")

    counts = await postgres.fetchrow("SELECT sum(relegations), sum(terminal_events) FROM jobs")
    assert tuple(counts) == (5, 5)


async def rows(postgres: asyncpg.Connection) -> list[dict[str, Any]]:
    """Everything that the ledger says about jobs."""
    found = []
    for table in ("jobs", "job_events", "job_results"):
        found += [
            dict(row) for row in await postgres.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        ]
    return found


async def test_a_ledger_that_is_rebuilt_from_the_log_says_the_same(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    completed, cancelled_late, cancelled, cancelled_running, expired, failed = [
        await wire.job(tenant=f"tenant-{number}") for number in range(6)
    ]
    async with consuming_and_reconciling(settings):
        for job_id in (completed, cancelled_late, cancelled_running):
            await wire.event(job_id, "admitted")
            await wire.event(job_id, "started")
        result = {"text": "x", "finish_reason": "stop"}
        await wire.event(completed, "completed", result=result)
        await wire.event(completed, "completed", attempt=2, result=result)
        await wire.event(expired, "expired", reason="late")
        await wire.event(cancelled_late, "completed", result=result)
        await wire.until_status(cancelled_late, "completed")
        for job_id in (cancelled, cancelled_late, cancelled_running):
            await wire.cancel(job_id)
        await wire.until_status(cancelled, "cancelled")
        await wire.event(cancelled, "cancelled", reason="by the worker that drops it")
        await wire.event(cancelled_running, "cancelled", reason="by its worker")
        await wire.event(failed, "failed", error={"code": "engine_error", "message": "m"})
        await wire.job(job_id=failed, tenant="somebody-else")
        await wire.raw(settings.topics.batch.name, b"{}")
        await wire.until("SELECT count(*) = 6 FROM jobs WHERE finished_at IS NOT NULL")
        await wire.until_all_is_read()
    before = await rows(postgres)
    read = await postgres.fetch("SELECT * FROM ledger_offsets ORDER BY 1, 2")
    await postgres.execute("TRUNCATE jobs, job_events, job_results, reply_outbox, ledger_offsets")

    async with consuming_and_reconciling(settings):
        await wire.until_status(cancelled, "cancelled")
        await wire.until_all_is_read()

    assert await rows(postgres) == before
    assert await postgres.fetch("SELECT * FROM ledger_offsets ORDER BY 1, 2") == read


async def test_records_that_nobody_understands_stop_nothing(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    topics = settings.topics
    junk = (b"{", b"\xff\xfe", None, b'{"schema_version": 9}', b"x" * 2_000_000)
    async with consuming(settings):
        for topic in (topics.interactive, topics.batch, topics.events, topics.control):
            for value in junk:
                await wire.raw(topic.name, value, key=uuid4())
        job_id = await wire.job()
        await wire.event(job_id, "failed", error={"code": "engine_error", "message": "a\0b"})
        await wire.until_status(job_id, "failed")

    query = "SELECT error_message FROM jobs WHERE job_id = $1"
    assert await postgres.fetchval(query, job_id) == "a\ufffdb"


async def test_a_record_that_the_ledger_cannot_use_becomes_a_dead_letter_alone(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    jobs = [await wire.job() for _ in range(9)]
    for number, job_id in enumerate(jobs):
        tokens = [2**40 if number == 4 else 1]  # of which Postgres refuses the larger
        result = {"text": "", "token_ids": tokens, "finish_reason": "stop"}
        await wire.event(job_id, "completed", result=result)
    unknown = json.dumps({"schema_version": 1, "type": "teleported"}).encode()
    await wire.raw(settings.topics.events.name, unknown, key=jobs[0])
    await wire.raw(settings.topics.batch.name, b"nonsense")  # the worker's to refuse

    dead_letters = DeadLetters(settings)
    sending = asyncio.create_task(dead_letters.run())
    async with consuming(settings, on_unusable=dead_letters.put):
        await wire.until("SELECT count(*) = 8 FROM jobs WHERE status = 'completed'")
        await wire.until("SELECT count(*) = 9 FROM jobs")
        await wire.until_all_is_read()
    dead_letters.stop()
    await asyncio.wait_for(sending, 60)

    assert await postgres.fetchval("SELECT status FROM jobs WHERE job_id = $1", jobs[4]) == "queued"
    letters = await published(settings, settings.topics.dead_letters.name)
    codes = {dict(letter.headers)[headers.REASON_CODE]: letter.value for letter in letters}
    assert codes.keys() == {b"refused_by_ledger", b"invalid_request"}
    assert codes[b"invalid_request"] == unknown
    assert JobEvent.model_validate_json(codes[b"refused_by_ledger"]).job_id == jobs[4]


async def test_a_cancellation_reaches_a_queued_job(settings: GatewaySettings, wire: Wire) -> None:
    job_id = await wire.job()
    await wire.cancel(job_id)

    async with consuming_and_reconciling(settings):
        await wire.until_status(job_id, "cancelled")


async def test_gateways_share_the_work_and_take_over_from_each_other(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    jobs = []

    async def publish(count: int) -> None:
        for _ in range(count):
            job_id = await wire.job()
            await wire.event(job_id, "relegated")
            await wire.event(job_id, "completed")
            jobs.append(job_id)

    async with consuming(settings) as first:
        await until_ready(first)
        await publish(10)
        async with consuming(settings) as second:
            publishing = asyncio.create_task(publish(30))
            await until_ready(first, second)
            await publishing
        await publish(10)
        await wire.until("SELECT count(*) = 50 FROM jobs WHERE status = 'completed'")

    counts = await postgres.fetchrow("SELECT sum(relegations), sum(terminal_events) FROM jobs")
    assert tuple(counts) == (50, 50)


async def test_the_offsets_are_committed_to_kafka_for_lag_tools(
    settings: GatewaySettings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "COMMIT_TIMEOUT_S", PATIENCE_S)
    job_id = await wire.job()
    async with consuming(settings):
        await wire.until_status(job_id, "queued")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(f"{settings.topic_prefix}-ledger")
    await admin.close()

    batch = [at.offset for part, at in offsets.items() if part.topic == settings.topics.batch.name]
    assert sum(batch) == 1


async def test_the_end_of_a_job_is_counted_once_and_what_is_open_is_shown(
    settings: GatewaySettings, wire: Wire
) -> None:
    measurements, pool = Measurements(), engine(settings, 1)
    metrics = LedgerMetrics(measurements, "g")
    counts = LedgerCounts(pool, settings.pool)
    ended, _ = await wire.job(), await wire.job()
    for kind in ("completed", "failed"):
        await wire.event(ended, kind)

    async with consuming(settings, on_written=metrics.written, on_stored=metrics.stored) as ledger:
        observe(measurements, ledger, DeadLetters(settings))
        observe_counts(measurements, counts)
        await wire.until_all_is_read()
        lags = numbers(measurements, "niyama.ledger.lag")
        counting = asyncio.create_task(counts.run())
        async with asyncio.timeout(PATIENCE_S):
            while not counts.by_pool:
                await asyncio.sleep(0.01)
        counts.stop()
        await counting
    await pool.dispose()

    assert numbers(measurements, "niyama.ledger.ended_jobs") == {("completed",): 1}
    assert numbers(measurements, "niyama.ledger.duplicate_endings") == {(): 1}
    consumed = numbers(measurements, "messaging.client.consumed.messages")
    assert sum(consumed.values()) == 4
    assert lags[settings.topics.events.name,] == 0
    assert numbers(measurements, "niyama.ledger.open_jobs") == {(settings.pool,): 1}
    assert numbers(measurements, "niyama.replies.pending") == {(settings.pool,): 0}
