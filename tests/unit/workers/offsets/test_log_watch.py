"""Logs that are no longer what was read."""

from asyncio import Event, create_task, sleep, timeout
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.support.consumer_group import PARTITION, FakeConsumer, FakeGroup, partitions_of
from tests.support.records import FakeRecord
from workers.offsets import log_watch
from workers.offsets.log_watch import LogWatch
from workers.offsets.partitions import Partitions
from workers.offsets.tracked_record import TrackedRecord


class FakeLog(FakeConsumer):
    """A partition whose log the test cuts, at either end."""

    def __init__(self) -> None:
        super().__init__(FakeGroup())
        self.start, self.end = 0, 10
        self.leaderless: set[TopicPartition] = set()
        self.asked_for: list[set[TopicPartition]] = []
        self.topic_id = uuid4()
        self.asked = Event()
        """Set while somebody asks for topic ids."""
        self.answers = Event()
        self.answers.set()

    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        self.asked_for.append(set(partitions))
        if self.leaderless.intersection(partitions):
            await Event().wait()
        return dict.fromkeys(partitions, self.start)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    log = FakeLog()

    async def topic_ids(_: FakeLog, topics: Iterable[str]) -> dict[str, UUID]:
        log.asked.set()
        await log.answers.wait()
        log.asked.clear()
        return dict.fromkeys(topics, log.topic_id)

    monkeypatch.setattr(log_watch, "topic_ids", topic_ids)
    return log


@pytest.fixture
async def partitions(log: FakeLog) -> Partitions:
    partitions = partitions_of(log)
    await partitions.assign({PARTITION})
    return partitions


@pytest.fixture
def restarts() -> list[int]:
    return []


@pytest.fixture
def watch(log: FakeLog, partitions: Partitions, restarts: list[int]) -> LogWatch:
    return LogWatch(log, log, partitions, on_restarted=lambda: restarts.append(1))


def _take(partitions: Partitions, *offsets: int) -> list[TrackedRecord]:
    progress = partitions.get(PARTITION)
    assert progress is not None
    taken = []
    for offset in offsets:
        pending = progress.take(offset)
        assert pending is not None
        taken.append(TrackedRecord(FakeRecord(offset=offset), pending, progress))
    return taken


async def test_nothing_is_said_of_a_log_that_only_grows(
    watch: LogWatch, partitions: Partitions, log: FakeLog, caplog: pytest.LogCaptureFixture
) -> None:
    _take(partitions, 0, 1, 5)  # 2 to 4 are transactions' ends
    await watch.check()
    log.end = 20
    await watch.check()
    assert not caplog.records


async def test_a_topic_that_was_recreated_while_nothing_of_it_was_ours_is_not_read_again(
    watch: LogWatch, partitions: Partitions, log: FakeLog, restarts: list[int]
) -> None:
    _take(partitions, 4)
    await watch.check()
    await partitions.revoke()
    await partitions.assign(set())  # there are more workers than partitions
    await watch.check()
    log.topic_id, log.end = uuid4(), 600_000
    log.group.committed = OffsetAndMetadata(500_000, "")  # by another worker
    await partitions.revoke()
    await partitions.assign({PARTITION})
    await watch.check()
    assert (log.position, restarts) == (500_000, [])


async def test_another_topic_of_the_same_name_is_read_from_its_beginning(
    watch: LogWatch, partitions: Partitions, log: FakeLog, restarts: list[int]
) -> None:
    (old,) = _take(partitions, 4)
    await partitions.commit()
    await watch.check()
    (uncertain,) = _take(partitions, 5)
    log.topic_id = uuid4()
    await watch.check()
    assert (log.position, restarts) == (0, [1])
    await partitions.revoke()  # before there is a commit about the new log
    await partitions.assign({PARTITION})
    # The first is certainly of the old topic, which nobody else reads; the second is read again.
    assert (partitions.owns(old), partitions.owns(uncertain)) == (True, False)
    (new,) = _take(partitions, 4)
    old.finish()
    assert new.is_unfinished
    await watch.check()
    assert restarts == [1]


async def test_a_topic_that_is_created_again_during_a_rebalance_is_read_after_it(
    watch: LogWatch, partitions: Partitions, log: FakeLog, restarts: list[int]
) -> None:
    _take(partitions, 4)
    await partitions.commit()
    await watch.check()
    log.topic_id = uuid4()
    log.answers.clear()
    checking = create_task(watch.check())
    async with timeout(60):
        await log.asked.wait()
        await partitions.revoke()
        log.answers.set()
        await checking
    assert not restarts
    await partitions.assign({PARTITION})
    await watch.check()
    assert (log.position, restarts) == (0, [1])


async def test_a_topic_without_a_leader_delays_no_other(
    watch: LogWatch,
    partitions: Partitions,
    log: FakeLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    leaderless = TopicPartition("a" + PARTITION.topic, 0)
    await partitions.assign({PARTITION, leaderless})
    for tp, progress in partitions:
        progress.take(2 if tp == PARTITION else 0)
    log.leaderless.add(leaderless)
    log.start = 7
    monkeypatch.setattr(log_watch, "LOOK_LIMIT_S", 60.0)
    checking = create_task(watch.check())
    async with timeout(60):
        while "offsets 3 to 6 were deleted" not in caplog.text:
            await sleep(0)
    assert not checking.done()
    checking.cancel()
    monkeypatch.setattr(log_watch, "LOOK_LIMIT_S", 0.01)
    async with timeout(60):
        await watch.check()


async def test_a_partition_without_a_leader_hides_no_other_of_its_topic(
    watch: LogWatch, partitions: Partitions, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_watch, "LOOK_LIMIT_S", 0.01)
    leaderless = PARTITION._replace(partition=PARTITION.partition + 1)
    await partitions.assign({PARTITION, leaderless})
    await watch.check()
    progress, other = partitions.get(PARTITION), partitions.get(leaderless)
    assert progress is not None
    assert other is not None
    assert (progress.lag, other.lag) == (10, 10)
    log.leaderless.add(leaderless)
    log.end = 1_000
    for _ in range(2):
        await watch.check()
    assert (progress.lag, other.lag) == (1_000, None)
    log.leaderless.clear()
    await watch.check()
    assert (progress.lag, other.lag) == (1_000, 1_000)
    log.asked_for.clear()
    await watch.check()
    assert log.asked_for == [{PARTITION, leaderless}]  # in one request again


async def test_a_log_that_was_cut_off_is_read_on_at_its_end(
    watch: LogWatch, partitions: Partitions, log: FakeLog, caplog: pytest.LogCaptureFixture
) -> None:
    kept, gone = _take(partitions, 6, 9)
    await watch.check()
    log.end = 8
    await watch.check()
    assert log.position == 8
    assert "was truncated at 8" in caplog.text
    assert (kept.is_unfinished, gone.is_unfinished) == (True, False)
    assert partitions.owns(gone)  # nobody else can run it
    _, new = _take(partitions, 8, 9)
    gone.finish()
    assert new.is_unfinished


async def test_a_commit_about_the_log_as_it_was_does_not_count(
    watch: LogWatch, partitions: Partitions, log: FakeLog
) -> None:
    """It was on its way when the log was found changed, and is the last before a rebalance."""
    _take(partitions, 6, 9)
    await watch.check()
    for change, resumes_at in (("cut off", 8), ("recreated", 0)):
        if change == "cut off":
            log.end = 8
        else:
            log.topic_id = uuid4()
        committing = create_task(partitions.commit())
        await sleep(0)
        await watch.check()
        assert await committing
        log.is_member = False
        await partitions.revoke()
        log.is_member = True
        await partitions.assign({PARTITION})
        assert log.position == resumes_at, change
        _take(partitions, *range(resumes_at, 10))


async def test_a_log_that_another_worker_has_read_meanwhile_is_not_read_again(
    watch: LogWatch, partitions: Partitions, log: FakeLog
) -> None:
    _take(partitions, 4)
    await watch.check()
    log.topic_id = uuid4()
    await watch.check()
    log.is_member = False  # that it is read from its beginning is not committed
    await partitions.revoke()
    await partitions.assign(set())
    log.group.committed = OffsetAndMetadata(500, "")
    await partitions.assign({PARTITION})
    assert log.position == 500


async def test_what_is_assigned_while_a_topic_is_found_created_again_is_read_from_its_beginning(
    watch: LogWatch, partitions: Partitions, log: FakeLog
) -> None:
    """Its last commit may be about the old topic."""
    await watch.check()
    log.topic_id = uuid4()
    log.answers.clear()
    log.group.committed = OffsetAndMetadata(500, "")
    checking = create_task(watch.check())
    async with timeout(60):
        await log.asked.wait()
        another = PARTITION._replace(partition=PARTITION.partition + 1)
        await partitions.revoke()
        await partitions.assign({PARTITION, another})
        log.answers.set()
        await checking
    assert [progress.position for _, progress in partitions] == [0, 0]


async def test_a_topic_that_is_created_again_while_nothing_of_it_is_here_is_read_on(
    watch: LogWatch, partitions: Partitions, log: FakeLog, restarts: list[int]
) -> None:
    """Whoever had it has noticed."""
    other_topic = TopicPartition("a" + PARTITION.topic, 0)
    await watch.check()
    await partitions.revoke()
    await partitions.assign({other_topic})
    log.topic_id = uuid4()
    await watch.check()
    log.group.committed = OffsetAndMetadata(5, "")
    await partitions.revoke()
    await partitions.assign({PARTITION})
    await watch.check()
    assert (log.position, restarts) == (5, [])


async def test_a_log_that_ends_before_the_commit_of_an_earlier_run_is_read_from_its_beginning(
    watch: LogWatch, partitions: Partitions, log: FakeLog, restarts: list[int]
) -> None:
    _take(partitions, 9)
    log.end = 2
    await watch.check()
    assert (log.position, restarts) == (0, [1])
    assert _take(partitions, 0)


@pytest.mark.parametrize("reads_on", [False, True])
async def test_records_that_were_deleted_before_they_were_read_are_named_once(
    watch: LogWatch,
    partitions: Partitions,
    log: FakeLog,
    caplog: pytest.LogCaptureFixture,
    reads_on: bool,
) -> None:
    _take(partitions, 2)
    log.start = 7
    if reads_on:
        _take(partitions, 7)
    for _ in range(2):
        await watch.check()
    (warning,) = caplog.messages
    assert "offsets 3 to 6 were deleted" in warning
