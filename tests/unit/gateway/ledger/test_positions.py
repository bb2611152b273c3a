"""What the ledger reads, and how it notices where the log has no records for it."""

import asyncio
from collections.abc import Collection

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, TopicAuthorizationFailedError

from gateway.ledger import positions as positions_module
from gateway.ledger.positions import Offsets, Positions, each_offset
from gateway.ledger.writer import OffsetStep

JOBS, EVENTS = TopicPartition("jobs", 0), TopicPartition("events", 0)


class FakeConsumer:
    """Has been assigned both partitions."""

    def __init__(self) -> None:
        self.positions = {JOBS: 0, EVENTS: 0}
        self.paused: set[TopicPartition] = set()

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def positions(consumer: FakeConsumer) -> Positions:
    positions = Positions(consumer)
    positions.on_partitions_assigned([JOBS, EVENTS])
    return positions


def steps(*given: tuple[TopicPartition, int, int]) -> list[OffsetStep]:
    return [OffsetStep(*part, since, until) for part, since, until in given]


def test_a_partition_is_read_once_its_position_is_known_and_its_turn_has_come(
    positions: Positions, consumer: FakeConsumer
) -> None:
    assert (positions.unknown(), consumer.paused) == ([EVENTS, JOBS], {JOBS, EVENTS})
    positions.seek({JOBS: 5, EVENTS: 7})
    positions.resume(held_topics=["events"])
    assert (positions.unknown(), consumer.paused) == ([], {EVENTS})
    assert consumer.positions == {JOBS: 5, EVENTS: 7}
    positions.resume(held_topics=[])
    assert not consumer.paused
    positions.forget()
    assert (positions.unknown(), consumer.paused) == ([EVENTS, JOBS], {JOBS, EVENTS})


async def test_what_is_passed_over_without_a_record_is_accounted_for(
    positions: Positions, consumer: FakeConsumer
) -> None:
    positions.seek({JOBS: 5, EVENTS: 7})
    assert await positions.passed_over([]) == []
    consumer.positions = {JOBS: 6, EVENTS: 8}  # past the marker of a transaction
    assert await positions.passed_over([JOBS]) == steps((EVENTS, 7, 8))


async def test_a_log_that_became_shorter_is_read_again_and_reported(
    positions: Positions, consumer: FakeConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    positions.seek({JOBS: 500, EVENTS: 7})
    consumer.positions[JOBS] = 0
    assert await positions.passed_over([]) == steps((JOBS, 500, 0))
    assert "jobs/0 ended before offset 500" in caplog.text
    assert "events" not in caplog.text


@pytest.mark.parametrize("lost", [True, False])
async def test_a_position_that_kafka_has_to_find_is_not_waited_for(
    positions: Positions, consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    positions.seek({JOBS: 5, EVENTS: 7})

    async def unknown(partition: TopicPartition) -> int:
        if lost:
            raise IllegalStateError(f"{partition} is not assigned")
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(consumer, "position", unknown)
    assert await positions.passed_over([]) == []


async def test_a_partition_whose_offsets_kafka_does_not_give_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(positions_module, "LOOKUP_TIMEOUT_S", 0.01)

    async def lookup(partitions: Collection[TopicPartition]) -> Offsets:
        (part,) = partitions
        if part.topic == "refused":
            raise TopicAuthorizationFailedError("refused")
        if part.topic == "late":
            await asyncio.Event().wait()
        return {part: 7}

    found = await each_offset(
        lookup, [JOBS, *(TopicPartition(name, 0) for name in ("refused", "late"))]
    )

    assert found == {JOBS: 7}
    refused, late = caplog.messages
    assert refused.startswith("refused/0: ")
    assert "TopicAuthorizationFailedError" in refused
    assert late.startswith("late/0: ")
    assert "within 0.01 s" in late


async def test_lookups_end_with_whoever_waits_for_them() -> None:
    ended = asyncio.Event()

    async def lookup(_: Collection[TopicPartition]) -> Offsets:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await each_offset(lookup, [JOBS])

    assert ended.is_set()
