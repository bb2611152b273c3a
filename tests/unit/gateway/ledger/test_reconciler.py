"""What cannot be cancelled now keeps the reconciler neither from other jobs nor from its rest."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from gateway.ledger import open_jobs, reconciler
from gateway.ledger.own_events import cancelled_while_queued
from gateway.ledger.positions import Offsets
from gateway.ledger.reconciler import Reconciler
from gateway.ledger.reconciliation import Reconciliation
from gateway.settings import GatewaySettings
from schemas import JobEvent
from tests.support.ledger import START, after

LED, LEADERLESS = TopicPartition("events", 0), TopicPartition("events", 1)


async def test_a_partition_without_a_leader_is_waited_for_once_in_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = {"pool": "tiny", "source_topic": "jobs", "source_partition": 0, "source_offset": 0}
    jobs = [
        job
        | {"job_id": UUID(int=number)}
        | dict.fromkeys(("arrived_at", "cancel_requested_at"), datetime.now(UTC))
        for number in range(1, 7)
    ]
    waits: list[set[TopicPartition]] = []
    published: list[UUID] = []

    async def to_cancel(_: object, after: UUID) -> list[dict[str, object]]:
        return [job for job in jobs if str(job["job_id"]) > str(after)][:2]

    async def still_to_cancel(_: object, job_ids: Sequence[UUID]) -> list[dict[str, object]]:
        return [job for job in jobs if job["job_id"] in job_ids]

    async def events_of(_: Reconciliation, job_id: UUID) -> TopicPartition:
        return LEADERLESS if job_id.int % 2 else LED

    async def wait_until_read(
        _: Reconciliation, parts: Collection[TopicPartition]
    ) -> set[TopicPartition]:
        waits.append(set(parts))
        return set(parts) - {LEADERLESS}

    async def publish(_: Reconciliation, events: Sequence[JobEvent]) -> None:
        published.extend(event.job_id for event in events)

    monkeypatch.setattr(open_jobs, "to_cancel", to_cancel)
    monkeypatch.setattr(open_jobs, "still_to_cancel", still_to_cancel)
    monkeypatch.setattr(Reconciliation, "_events_of", events_of)
    monkeypatch.setattr(Reconciliation, "_wait_until_read", wait_until_read)
    monkeypatch.setattr(Reconciliation, "_publish", publish)

    reconciliation = Reconciliation(GatewaySettings(), Mock(), Mock(), Mock())
    all_cancelled = await reconciliation.cancel_queued()

    assert not all_cancelled
    assert published == [UUID(int=number) for number in (2, 4, 6)]
    assert [wait for wait in waits if wait] == [{LED, LEADERLESS}]


async def test_open_jobs_are_looked_at_although_cancelling_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Reconciler(GatewaySettings())

    class Endless:
        async def cancel_queued(self) -> bool:
            await asyncio.Event().wait()
            return True

        async def take_turn(self, interval: timedelta) -> bool:
            return True

        async def look_at_open_jobs(self, ends_before: Offsets) -> Offsets:
            running.stop()
            return ends_before

    @asynccontextmanager
    async def connected(_: GatewaySettings) -> AsyncIterator[Endless]:
        yield Endless()

    monkeypatch.setattr(reconciler, "connected", connected)
    monkeypatch.setattr(reconciler, "CANCELLING_TIMEOUT_S", 0.01)

    await asyncio.wait_for(running.run(), 10)


def test_a_job_that_was_cancelled_before_it_came_ends_when_it_comes() -> None:
    times = {"arrived_at": after(60), "cancel_requested_at": START}
    source = {"source_topic": "jobs", "source_partition": 0, "source_offset": 0}
    job = source | times | {"job_id": UUID(int=1), "pool": "tiny"}

    assert cancelled_while_queued(job).at == after(60)
    assert cancelled_while_queued(job | {"cancel_requested_at": after(90)}).at == after(90)
