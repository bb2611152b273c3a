"""Jobs before events when there is a backlog: for how long, and what it takes to go on."""

import asyncio
from collections.abc import Collection

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from gateway.ledger import catch_up
from gateway.ledger.catch_up import PATIENCE_S, CatchUp, each_offset
from gateway.ledger.positions import Offsets

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


async def test_a_partition_without_a_leader_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "LOOKUP_TIMEOUT_S", 0.01)

    async def lookup(partitions: Collection[TopicPartition]) -> Offsets:
        (part,) = partitions
        if part.topic == "refuses":
            raise KafkaTimeoutError
        if part.topic == "hangs":
            await asyncio.Event().wait()
        return {part: 7}

    found = await each_offset(
        lookup, [ONE, *(TopicPartition(name, 0) for name in ("refuses", "hangs"))]
    )

    assert found == {ONE: 7}
