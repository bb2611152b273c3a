"""After an assignment, attempts are committed before they start; later, records only start."""

import asyncio

import pytest
from aiokafka import TopicPartition

from tests.support.records import FakeRecord
from workers.intake.dispatch import Dispatcher
from workers.intake.flow_control import FlowControl
from workers.intake.poll_loop import (
    POLL_RECORDS,
    WRITE_AHEAD_POLL_RECORDS,
    WRITE_AHEAD_S,
    Batches,
    PollLoop,
)
from workers.offsets.attempts import AttemptHistory, CrashLimit
from workers.offsets.partitions import Partitions
from workers.offsets.tracked_record import TrackedRecord
from workers.offsets.watermark import PartitionProgress

PARTITION = TopicPartition(FakeRecord.topic, FakeRecord.partition)


class FakeConsumer:
    """Has what the test puts there, and ends the loop when that was read."""

    def __init__(self) -> None:
        self.records: list[FakeRecord] = []
        self.max_records: list[int] = []

    async def getmany(self, timeout_ms: int, max_records: int) -> Batches:
        if not self.records:
            raise asyncio.CancelledError
        self.max_records.append(max_records)
        records, self.records = self.records, []
        return {PARTITION: records}


class FakePartitions(Partitions):
    """One partition; notes the commits."""

    def __init__(self, progress: PartitionProgress, steps: list[str]) -> None:
        super().__init__(consumer=None, admin=None, group="g")
        self._progress = {PARTITION: progress}
        self._steps = steps

    async def commit(self, *, crashed: bool = True) -> None:
        self._steps.append("commit")


class OpenFlow(FlowControl):
    """Nothing is ever paused."""

    def __init__(self) -> None:
        """Nothing to control."""

    def is_paused(self, partition: TopicPartition) -> bool:
        return False

    def rebalanced(self) -> None:
        """Nothing to resume."""

    def update(self) -> None:
        """Nothing to follow."""

    def update_partitions(self) -> None:
        """Nothing to follow."""


class FakeDispatcher(Dispatcher):
    """Notes what is dispatched."""

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    def dispatch(self, tracked: TrackedRecord) -> None:
        counts = "counts" if tracked.pending.attempt_counts else "does not count"
        self._steps.append(f"{tracked.record.offset} {counts}")


class Harness:
    """A poll loop whose clock the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.consumer = FakeConsumer()
        self.progress = PartitionProgress()
        self.steps: list[str] = []
        self.loop = PollLoop(
            self.consumer,
            FakePartitions(self.progress, self.steps),
            OpenFlow(),
            FakeDispatcher(self.steps),
            crash_limit=CrashLimit(3),
            clock=lambda: self.now_s,
        )

    async def read(self, *records: FakeRecord) -> None:
        """One turn of the loop."""
        self.consumer.records = list(records)
        with pytest.raises(asyncio.CancelledError):
            await self.loop.run()


async def test_attempts_are_committed_first_until_the_time_is_over() -> None:
    harness = Harness()
    harness.loop.rebalanced()
    harness.now_s += WRITE_AHEAD_S - 0.1
    await harness.read(FakeRecord(offset=7), FakeRecord(offset=8))
    assert harness.steps == ["commit", "7 counts", "8 counts"]
    harness.now_s += 0.1
    await harness.read(FakeRecord(offset=9))
    assert harness.steps[3:] == ["9 does not count"]
    assert harness.consumer.max_records == [WRITE_AHEAD_POLL_RECORDS, POLL_RECORDS]


async def test_a_job_on_its_last_chance_does_not_count_ahead() -> None:
    before, harness = PartitionProgress(), Harness()
    pending = before.take(7)
    assert pending is not None
    pending.history = AttemptHistory(attempts=2, crashes=2)
    harness.progress.merge(before.commit_point())
    harness.loop.rebalanced()
    await harness.read(FakeRecord(offset=7))
    assert harness.steps == ["commit", "7 does not count"]
