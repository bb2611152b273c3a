"""Open jobs that no worker will report on, on the real Kafka and the real Postgres."""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from gateway.ledger import reconciliation as reconciling
from gateway.ledger.reconciliation import Reconciliation, Seen, connected
from gateway.settings import GatewaySettings
from niyama import kafka
from schemas import JobEvent, TopicSpec
from tests.support.consuming import consuming
from tests.support.wire import Wire, published


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that gives up on a ledger that is behind would be repeated a minute later."""
    monkeypatch.setattr(reconciling, "LAG_TIMEOUT_S", 60.0)


async def offsets_of(postgres: asyncpg.Connection, topic: TopicSpec) -> dict[TopicPartition, int]:
    """How far the ledger has read the topic."""
    query = "SELECT topic, partition, next_offset FROM ledger_offsets WHERE topic = $1"
    return {TopicPartition(*row[:2]): row[2] for row in await postgres.fetch(query, topic.name)}


async def test_a_queued_job_whose_record_was_deleted_fails_and_is_answered(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    lost = await wire.job(reply_topic="niyama-replies.a")
    taken = await wire.job()
    await wire.event(taken, "admitted")
    async with consuming(settings):
        await wire.until_status(lost, "queued")
        await wire.until_status(taken, "admitted")
        async with kafka.admin(settings) as admin:
            ends = await offsets_of(postgres, settings.topics.batch)
            await admin.delete_records({part: RecordsToDelete(end) for part, end in ends.items()})
        kept = await wire.job()
        await wire.until_status(kept, "queued")
        async with connected(settings) as reconciliation:
            await reconciliation.look_at_open_jobs(Seen())
        await wire.until_status(lost, "failed")
        async with connected(settings) as reconciliation:
            await reconciliation.look_at_open_jobs(Seen())

    reply = JobEvent.model_validate_json(await postgres.fetchval("SELECT value FROM reply_outbox"))
    assert reply.error is not None
    assert (reply.job_id, reply.error.code) == (lost, "record_deleted")
    statuses = await postgres.fetch("SELECT job_id, status, attempt FROM jobs")
    assert {row["job_id"]: (row["status"], row["attempt"]) for row in statuses} == {
        lost: ("failed", 0),
        taken: ("admitted", 1),  # the worker that has it may well complete it
        kept: ("queued", 0),
    }


async def test_a_job_that_arrives_while_the_reconciler_looks_is_not_lost(
    settings: GatewaySettings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_read = Reconciliation._wait_until_read

    async def job_arrives(
        self: Reconciliation, parts: Collection[TopicPartition]
    ) -> set[TopicPartition]:
        await wire.until_status(await wire.job(), "queued")
        return await wait_until_read(self, parts)

    monkeypatch.setattr(Reconciliation, "_wait_until_read", job_arrives)
    async with consuming(settings), connected(settings) as reconciliation:
        await wire.until_status(await wire.job(), "queued")  # Kafka has coordinators of groups
        seen = await reconciliation.look_at_open_jobs(Seen())
        await reconciliation.look_at_open_jobs(seen)

    assert await published(settings, settings.topics.events.name) == []


async def test_a_topic_that_was_made_again_is_read_and_jobs_beyond_its_end_fail(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    key = "same partition"
    old = [await wire.job(key=key) for _ in range(3)]
    async with consuming(settings):
        await wire.until("SELECT count(*) = 3 FROM jobs")
    await wire.delete_topic(settings.topics.batch)
    await kafka.ensure_topics(settings, settings.topics.all)
    new = await wire.job(key=key)

    async with consuming(settings):
        await wire.until_status(new, "queued")
        async with connected(settings) as reconciliation:
            seen = await reconciliation.look_at_open_jobs(Seen())
            assert not await postgres.fetchval("SELECT count(finished_at) FROM jobs")
            await reconciliation.look_at_open_jobs(seen)
        await wire.until_status(old[2], "failed")

    message = await postgres.fetchval("SELECT error_message FROM jobs WHERE job_id = $1", old[2])
    assert "truncated, or deleted and recreated" in message


async def test_jobs_in_partitions_that_are_gone_fail(settings: GatewaySettings, wire: Wire) -> None:
    for number in range(8):
        await wire.job(key=str(number))
    async with consuming(settings):
        await wire.until("SELECT count(*) = 8 FROM jobs")
    await wire.delete_topic(settings.topics.batch)
    await kafka.ensure_topics(settings, [replace(settings.topics.batch, partitions=1)])

    async with consuming(settings):
        await wire.until_status(await wire.job(), "queued")
        seen = Seen()
        for _ in range(2):
            async with connected(settings) as reconciliation:
                seen = await reconciliation.look_at_open_jobs(seen)
        await wire.until("SELECT bool_and(status = 'failed') FROM jobs WHERE source_partition > 0")


async def test_an_open_job_that_workers_are_done_with_is_marked_until_it_ends(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    skipped, waiting = await wire.job(key="k"), await wire.job(key="k")
    async with consuming(settings):
        await wire.until_status(waiting, "queued")
        offsets = await offsets_of(postgres, settings.topics.batch)
        part, end = next((part, offset) for part, offset in offsets.items() if offset == 2)
        async with kafka.consumer(settings, group_id=settings.workers_group) as workers:
            workers.assign([part])
            await workers.commit({part: OffsetAndMetadata(end - 1, "")})
        async with connected(settings) as reconciliation:
            await reconciliation.look_at_open_jobs(Seen())
            await reconciliation.look_at_open_jobs(Seen())

    marked = await postgres.fetch("SELECT job_id FROM jobs WHERE abandoned_at IS NOT NULL")
    assert [row["job_id"] for row in marked] == [skipped]


async def test_a_cancelled_job_waits_for_events_that_the_ledger_has_not_read(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    job_id = await wire.job()
    async with consuming(settings):
        await wire.until_status(job_id, "queued")
    await postgres.execute("UPDATE jobs SET cancel_requested_at = now()")
    await wire.event(job_id, "completed")

    async with consuming(settings):
        async with connected(settings) as reconciliation:
            assert await reconciliation.cancel_queued()
        await wire.until_status(job_id, "completed")

    assert await postgres.fetchval("SELECT count(*) FROM job_events") == 1


async def test_one_gateway_takes_each_turn(settings: GatewaySettings, wire: Wire) -> None:
    async with connected(settings) as one, connected(settings) as other:
        turns = [await each.take_turn(timedelta(hours=1)) for each in (one, other, one)]
    assert turns == [True, False, False]


async def test_a_turn_does_not_wait_for_a_clock_that_was_set_back(
    settings: GatewaySettings, wire: Wire, postgres: asyncpg.Connection
) -> None:
    async with connected(settings) as one:
        assert await one.take_turn(timedelta(hours=1))
        await postgres.execute("UPDATE periodic_tasks SET next_run_at = now() + interval '1 day'")
        assert await one.take_turn(timedelta(hours=1))
