"""Jobs before events when there is a backlog: for how long, and what it takes to go on."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from gateway.ledger import catch_up
from gateway.ledger.catch_up import PATIENCE_S, TOGETHER_S, CatchUp, poll_together
from tests.support.virtual_time import run_in_virtual_time

ONE, OTHER = TopicPartition("jobs", 0), TopicPartition("jobs", 1)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_waits_without_a_backlog() -> None:
    assert CatchUp({}, Clock()).is_done({})
    assert CatchUp({ONE: 0}, Clock()).is_done({})


def test_all_partitions_have_to_be_read_to_their_ends_whoever_reads_them() -> None:
    backlog = CatchUp({ONE: 5, OTHER: 3}, Clock())

    assert not backlog.is_done({ONE: 5})
    assert not backlog.is_done({ONE: 9, OTHER: 2})
    assert backlog.is_done({ONE: 9, OTHER: 3})


def test_what_is_left_is_that_of_ones_own_partitions() -> None:
    backlog = CatchUp({ONE: 5, OTHER: 3}, Clock())

    assert backlog.left({ONE: 4}) == {ONE: 5}
    assert backlog.left({ONE: 5, OTHER: 1}) == {OTHER: 3}


def test_patience_ends_when_nothing_happens_for_a_while() -> None:
    clock = Clock()
    backlog = CatchUp({ONE: 5, OTHER: 3}, clock)
    done = []
    for read in (1, 2, 5, 5):
        clock.now_s += PATIENCE_S - 1
        done.append(backlog.is_done({ONE: read}))
    clock.now_s += 1

    assert done == [False] * 4  # it went on, if slowly
    assert backlog.is_done({ONE: 5})


class ScriptedConsumer:
    """Gives one poll after another, then nothing."""

    def __init__(self, *polls: dict[TopicPartition, list[int]]) -> None:
        self._polls = list(polls)
        self.rooms: list[int] = []

    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[SimpleNamespace]]:
        self.rooms.append(max_records)
        if not self._polls:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        poll = self._polls.pop(0)
        return {part: [SimpleNamespace(offset=each) for each in poll[part]] for part in poll}


def offsets(polled: dict[TopicPartition, list[ConsumerRecord]]) -> dict[TopicPartition, list[int]]:
    return {part: [record.offset for record in records] for part, records in polled.items()}


async def test_a_backlog_is_polled_together_up_to_its_ends() -> None:
    consumer = ScriptedConsumer({OTHER: [7]}, {ONE: [0]}, {ONE: [1, 2], OTHER: [8]}, {ONE: [3]})

    polled = await poll_together(consumer, {ONE: 3, OTHER: 8}, 5_000)

    assert offsets(polled) == {ONE: [0, 1, 2], OTHER: [7, 8]}
    assert consumer.rooms == [5_000, 4_999, 4_998]


async def test_a_large_backlog_comes_in_parts() -> None:
    consumer = ScriptedConsumer({OTHER: [7]}, {OTHER: [8]}, {OTHER: [9]})

    assert offsets(await poll_together(consumer, {OTHER: 99}, 2)) == {OTHER: [7, 8]}


def test_a_partition_that_gives_nothing_holds_up_the_others_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = ScriptedConsumer({OTHER: [7]})

    async def polled() -> dict[TopicPartition, list[ConsumerRecord]]:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(catch_up, "time", SimpleNamespace(monotonic=loop.time))
        together = await poll_together(consumer, {ONE: 3, OTHER: 8}, 9)
        assert loop.time() == pytest.approx(TOGETHER_S)
        return together

    assert offsets(run_in_virtual_time(polled())) == {OTHER: [7]}
