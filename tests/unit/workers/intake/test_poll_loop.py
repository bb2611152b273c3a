"""What a dead worker may have taken is committed before it starts; new records only start."""

import asyncio
import sys
from collections.abc import Callable, Sequence

import pytest
from aiokafka import TopicPartition

from tests.support.consumer_group import PARTITION, FakeConsumer, FakeGroup, partitions_of
from tests.support.records import FakeRecord
from workers.intake import poll_loop
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.intake.poll_loop import POLL_RECORDS, WRITE_AHEAD_RECORDS, PollLoop
from workers.offsets.attempts import AttemptHistory, Exposure
from workers.offsets.partitions import Partitions
from workers.offsets.tracked_record import TrackedRecord
from workers.offsets.watermark import CommitPoint, PartitionProgress


class FakeFlow(FlowControl):
    """The partition is paused once `room` records have been dispatched."""

    def __init__(self, consumer: FakeConsumer, dispatcher: "FakeDispatcher") -> None:
        self.room = sys.maxsize
        self._consumer = consumer
        self._dispatcher = dispatcher

    def rebalanced(self) -> None:
        self.update()

    def update_partitions(self) -> None:
        self.update()

    def is_paused(self, partition: TopicPartition) -> bool:
        return partition in self._consumer.paused

    def reading_since_s(self, partition: TopicPartition) -> float:
        return 0.0

    def update(self) -> None:
        if len(self._dispatcher.dispatched) < self.room:
            self._consumer.resume(PARTITION)
        else:
            self._consumer.pause(PARTITION)


class FakeDispatcher(Dispatcher):
    """Notes what is dispatched, and at which commit."""

    def __init__(self, group: FakeGroup) -> None:
        self._group = group
        self.dispatched: list[tuple[int, Exposure, int]] = []

    def dispatch(self, tracked: TrackedRecord) -> None:
        step = (tracked.record.offset, tracked.pending.exposure, self._group.commits)
        self.dispatched.append(step)


class Harness:
    """A poll loop of a worker that has just been assigned the partition."""

    def __init__(self, records: int) -> None:
        self.group = FakeGroup([FakeRecord(offset=offset) for offset in range(records)])
        self.consumer = FakeConsumer(self.group)
        self.partitions = partitions_of(self.consumer)
        self.dispatcher = FakeDispatcher(self.group)
        self.flow = FakeFlow(self.consumer, self.dispatcher)
        self.loop = PollLoop(
            self.consumer, self.partitions, self.flow, self.dispatcher, lambda *_: None
        )

    async def read(self, until: int) -> list[tuple[int, Exposure, int]]:
        """Run the loop until so many records have been dispatched in all; the last of them."""
        before = len(self.dispatcher.dispatched)
        running = asyncio.create_task(self.loop.run())
        async with asyncio.timeout(60):
            while len(self.dispatcher.dispatched) < until:
                await asyncio.sleep(0)
        running.cancel()
        return self.dispatcher.dispatched[before:]

    async def assign(self) -> None:
        await self.partitions.assign({PARTITION})
        self.loop.rebalanced()

    async def commit_crashes(self, *crashes: int) -> None:
        """What earlier workers left: how many deaths each record has seen."""
        before = PartitionProgress()
        for offset, number in enumerate(crashes):
            pending = before.take(offset)
            assert pending is not None
            pending.history = AttemptHistory(attempts=number, crashes=number)
        point = before.commit_point()
        await self.consumer.commit({PARTITION: (point.offset, point.metadata)})


def _crashes_after(group: FakeGroup) -> list[int]:
    """How many deaths each record has seen if its worker dies now."""
    progress = PartitionProgress()
    progress.merge(CommitPoint(*group.committed))
    pending = [progress.take(record.offset) for record in group.records]
    return [each.history.crashes for each in pending if each is not None]


async def test_what_was_there_before_is_committed_ahead_and_what_comes_later_is_not() -> None:
    harness = Harness(records=2)
    await harness.assign()
    before = await harness.read(until=2)
    assert before == [(0, Exposure.SHARED, 1), (1, Exposure.SHARED, 1)]
    harness.group.records.append(FakeRecord(offset=2))
    assert await harness.read(until=3) == [(2, Exposure.NONE, 1)]


async def test_records_for_which_no_room_is_left_are_put_back_and_read_again() -> None:
    harness = Harness(records=5)
    await harness.assign()
    for room in range(1, 6):
        harness.flow.room = room
        harness.flow.update()
        assert [offset for offset, _, _ in await harness.read(until=room)] == [room - 1]
        await harness.partitions.commit()
        assert _crashes_after(harness.group) == [1] * room + [0] * (5 - room)


async def test_of_suspects_and_others_whichever_find_no_room_are_put_back() -> None:
    harness = Harness(records=4)
    await harness.commit_crashes(0, 2, 0, 2)
    await harness.assign()
    running = asyncio.create_task(harness.loop.run())
    async with asyncio.timeout(60):
        for room in (1, 3, 4):
            harness.flow.room, polls = room, harness.consumer.polls
            harness.flow.update()
            while len(harness.dispatcher.dispatched) < room or harness.consumer.polls == polls:
                await asyncio.sleep(0)
            assert len(harness.dispatcher.dispatched) == room
    running.cancel()
    # The second suspect was read again, before the others.
    offsets = [offset for offset, _, _ in harness.dispatcher.dispatched]
    assert offsets == [1, 3, 0, 2]


async def test_a_long_backlog_is_not_committed_ahead_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poll_loop, "UNCOMMITTED_RECORDS", 2 * WRITE_AHEAD_RECORDS)
    harness = Harness(records=2 * POLL_RECORDS)
    await harness.assign()
    dispatched = await harness.read(until=2 * POLL_RECORDS)
    exposures = [exposure for _, exposure, _ in dispatched]
    assert exposures[: 2 * WRITE_AHEAD_RECORDS] == [Exposure.SHARED] * 2 * WRITE_AHEAD_RECORDS
    assert exposures[POLL_RECORDS:] == [Exposure.NONE] * POLL_RECORDS


async def test_suspects_are_decoded_one_by_one_and_before_the_others() -> None:
    harness = Harness(records=3)
    await harness.commit_crashes(0, 2, 2)
    await harness.assign()
    assert [(offset, exposure) for offset, exposure, _ in await harness.read(until=3)] == [
        (1, Exposure.TRIAL),
        (2, Exposure.TRIAL),
        (0, Exposure.SHARED),
    ]


async def test_records_of_a_partition_that_moves_meanwhile_are_left_to_be_read_again() -> None:
    harness = Harness(records=2 * WRITE_AHEAD_RECORDS)
    await harness.assign()
    running = asyncio.create_task(harness.loop.run())
    while not harness.dispatcher.dispatched:
        await asyncio.sleep(0)
    await harness.partitions.revoke()
    await harness.assign()
    async with asyncio.timeout(60):
        while len(harness.dispatcher.dispatched) < 2 * WRITE_AHEAD_RECORDS:
            await asyncio.sleep(0)
    running.cancel()
    offsets = [offset for offset, _, _ in harness.dispatcher.dispatched]
    assert sorted(offsets) == list(range(2 * WRITE_AHEAD_RECORDS))


async def test_records_whose_partition_is_lost_during_their_write_ahead_are_not_started() -> None:
    harness = Harness(records=2)
    await harness.assign()
    harness.consumer.is_member = False  # no commit is taken any more
    running = asyncio.create_task(harness.loop.run())
    async with asyncio.timeout(60):
        while harness.consumer.position < 2:
            await asyncio.sleep(0)
        await harness.partitions.revoke()
        await harness.partitions.assign(set())
        harness.loop.rebalanced()
        before = harness.consumer.polls
        while harness.consumer.polls == before:
            await asyncio.sleep(0)
    running.cancel()
    assert not harness.dispatcher.dispatched


@pytest.mark.parametrize(
    ("change", "started"),
    [
        (lambda partitions: partitions.restart(PARTITION), range(15)),
        # Those of the first group that are gone run all the same: nobody else can run them.
        (lambda partitions: partitions.truncate(PARTITION, 10), (*range(20), *range(10, 15))),
    ],
    ids=["recreated", "cut off"],
)
async def test_what_was_fetched_before_the_log_changed_does_not_count_as_read(
    change: Callable[[Partitions], None], started: Sequence[int]
) -> None:
    harness = Harness(records=2 * WRITE_AHEAD_RECORDS)
    await harness.assign()
    harness.consumer.is_member = False  # the first group of them cannot be committed yet
    running = asyncio.create_task(harness.loop.run())
    async with asyncio.timeout(60):
        while harness.consumer.position < 2 * WRITE_AHEAD_RECORDS:
            await asyncio.sleep(0)
        del harness.group.records[15:]
        change(harness.partitions)
        harness.consumer.is_member = True
        while len(harness.dispatcher.dispatched) < len(started):
            await asyncio.sleep(0)
    running.cancel()
    assert [offset for offset, _, _ in harness.dispatcher.dispatched] == list(started)


async def test_a_log_may_change_while_the_attempts_of_another_are_committed() -> None:
    harness = Harness(records=1)
    other = TopicPartition(PARTITION.topic, PARTITION.partition + 1)
    await harness.partitions.assign({PARTITION, other})
    harness.consumer.fetched = {
        other: [FakeRecord(partition=other.partition, offset=0)],
        PARTITION: [FakeRecord(offset=offset) for offset in range(10)],
    }
    harness.consumer.is_member = False
    running = asyncio.create_task(harness.loop.run())
    async with asyncio.timeout(60):
        while harness.consumer.fetched:
            await asyncio.sleep(0)
        harness.partitions.restart(PARTITION)
        harness.consumer.is_member = True
        while len(harness.dispatcher.dispatched) < 2:
            await asyncio.sleep(0)
    running.cancel()
    progress = harness.partitions.get(PARTITION)
    assert progress is not None
    assert progress.position == 1
