"""Partitions come and go: what is finished is committed, what moved is its new owner's."""

import asyncio

import pytest

from tests.support.consumer_group import (
    PARTITION,
    SESSION_TIMEOUT_S,
    FakeConsumer,
    FakeGroup,
    partitions_of,
)
from tests.support.records import FakeRecord
from workers.offsets.partitions import Partitions
from workers.offsets.tracked_record import TrackedRecord


class Harness:
    """A worker that has taken three records."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.group = FakeGroup([FakeRecord(offset=offset) for offset in range(3)])
        self.partitions = partitions_of(FakeConsumer(self.group), lambda: self.now_s)

    async def take_all(self) -> list[TrackedRecord]:
        await self.partitions.assign({PARTITION})
        return take_all(self.partitions, self.group)

    def unfinished(self) -> list[int]:
        """What the group's last commit leaves to do."""
        return [tracked.record.offset for tracked in self.left_to_do]

    async def look(self) -> None:
        """Read the last commit like a new owner."""
        other = partitions_of(FakeConsumer(self.group))
        await other.assign({PARTITION})
        self.left_to_do = take_all(other, self.group)


def take_all(partitions: Partitions, group: FakeGroup) -> list[TrackedRecord]:
    progress = partitions.get(PARTITION)
    assert progress is not None
    taken = [(record, progress.take(record.offset)) for record in group.records]
    return [TrackedRecord(record, pending, progress) for record, pending in taken if pending]


@pytest.fixture
async def harness() -> Harness:
    return Harness()


async def test_what_finishes_while_the_group_waits_for_its_members_is_committed(
    harness: Harness,
) -> None:
    records = await harness.take_all()
    records[1].finish()
    await harness.partitions.revoke()
    records[0].finish()
    await harness.partitions.commit()
    await harness.look()
    assert harness.unfinished() == [2]


async def test_nothing_is_committed_once_the_next_generation_has_begun(harness: Harness) -> None:
    records = await harness.take_all()
    await harness.partitions.revoke()
    harness.group.generation += 1
    for record in records:
        record.finish()
    await harness.partitions.commit()
    await harness.look()
    assert harness.unfinished() == [0, 1, 2]


async def test_nothing_more_is_said_of_records_that_moved(harness: Harness) -> None:
    records = await harness.take_all()
    await harness.partitions.revoke()
    assert not records[0].is_superseded()
    await harness.partitions.assign(set())
    assert all(record.is_superseded() for record in records)


async def test_the_lease_ends_with_the_session_and_the_next_commit_renews_it(
    harness: Harness,
) -> None:
    await harness.take_all()
    lease = harness.partitions.lease
    assert lease.is_valid
    harness.now_s += SESSION_TIMEOUT_S
    assert not lease.is_valid
    waiting = asyncio.create_task(lease.wait_until_valid())
    keeping = asyncio.create_task(harness.partitions.keep_committed(interval_s=3600))
    async with asyncio.timeout(60):
        await waiting
    keeping.cancel()
    assert lease.is_valid


async def test_a_commit_that_the_group_refuses_does_not_renew_the_lease(harness: Harness) -> None:
    await harness.take_all()
    harness.now_s += SESSION_TIMEOUT_S
    harness.partitions._consumer.is_member = False
    assert not await harness.partitions.commit()
    assert not harness.partitions.lease.is_valid


async def test_a_commit_with_nothing_new_renews_the_lease_in_time(harness: Harness) -> None:
    await harness.take_all()
    await harness.partitions.commit()
    commits = harness.group.commits
    await harness.partitions.commit()
    assert harness.group.commits == commits
    harness.now_s += SESSION_TIMEOUT_S / 2
    await harness.partitions.commit()
    harness.now_s += SESSION_TIMEOUT_S * 0.9
    assert harness.partitions.lease.is_valid
