"""What cannot be cancelled now keeps the reconciler neither from other jobs nor from its rest."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from gateway.ledger import open_jobs, reconciler, reconciliation
from gateway.ledger.open_jobs import LogRange
from gateway.ledger.own_events import cancelled_while_queued
from gateway.ledger.positions import Offsets
from gateway.ledger.reconciler import Reconciler
from gateway.ledger.reconciliation import Reconciliation, Seen
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

        async def look_at_open_jobs(self, before: Seen) -> Seen:
            running.stop()
            return before

    @asynccontextmanager
    async def connected(_: GatewaySettings) -> AsyncIterator[Endless]:
        yield Endless()

    monkeypatch.setattr(reconciler, "connected", connected)
    monkeypatch.setattr(reconciler, "CANCELLING_TIMEOUT_S", 0.01)

    await asyncio.wait_for(running.run(), 60)


KEPT, GONE = (TopicPartition("niyama.default.batch", number) for number in range(2))


@dataclass(frozen=True, slots=True)
class RecreatedTopic(Reconciliation):
    """Each topic has one partition now, and notes whose jobs would fail."""

    failed: list[tuple[TopicPartition, LogRange]] = field(default_factory=list)

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, 0)]

    async def _exists(self, part: TopicPartition) -> bool:
        return part.partition == 0

    async def _finished_by_workers(self, parts: Collection[TopicPartition]) -> Offsets:
        return {}

    async def _wait_until_read(self, parts: Collection[TopicPartition]) -> set[TopicPartition]:
        return set(parts)

    async def _fail_without_record(self, part: TopicPartition, had: LogRange) -> None:
        self.failed.append((part, had))


async def unknown_offsets(_: object, parts: Collection[TopicPartition]) -> Offsets:
    return {}


async def test_jobs_fail_when_their_partition_was_missing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def partitions_from(_: object, topic: str, number: int) -> set[TopicPartition]:
        return {GONE} if (topic, number) == (GONE.topic, 1) else set()

    monkeypatch.setattr(reconciliation, "each_offset", unknown_offsets)
    monkeypatch.setattr(open_jobs, "partitions_from", partitions_from)
    looking = RecreatedTopic(GatewaySettings(), Mock(), Mock(), Mock())

    seen = await looking.look_at_open_jobs(Seen())
    assert looking.failed == []
    await looking.look_at_open_jobs(seen)

    assert looking.failed == [(GONE, LogRange(0, 0))]


async def test_a_partition_that_has_come_back_may_have_any_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciliation, "each_offset", unknown_offsets)
    looking = RecreatedTopic(GatewaySettings(), Mock(), Mock(), Mock())

    assert await looking._grown(GONE, LogRange(0, 0)) == LogRange(0, 0)
    assert 10**9 in await looking._grown(KEPT, LogRange(0, 0))


def test_a_job_that_was_cancelled_before_it_came_ends_when_it_comes() -> None:
    times = {"arrived_at": after(60), "cancel_requested_at": START}
    source = {"source_topic": "jobs", "source_partition": 0, "source_offset": 0}
    job = source | times | {"job_id": UUID(int=1), "pool": "tiny"}

    assert cancelled_while_queued(job).at == after(60)
    assert cancelled_while_queued(job | {"cancel_requested_at": after(90)}).at == after(90)
