"""How far the ledger lags behind the log, above all while it reads nothing."""

from collections.abc import Collection

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError

from gateway.ledger.lag import LagWatch, LedgerLag
from gateway.ledger.positions import Offsets, Positions

JOBS, EVENTS, LEADERLESS = (TopicPartition(topic, 0) for topic in ("jobs", "events", "leaderless"))


class FakeConsumer:
    """Of three partitions whose logs end at `end`, as a fetch says, or who asks."""

    def __init__(self) -> None:
        self.end = 10
        self.fetched: dict[TopicPartition, int] = {}
        self.on_hold: set[TopicPartition] = set()
        self.asked: list[TopicPartition] = []

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset((JOBS, EVENTS, LEADERLESS))

    def pause(self, *partitions: TopicPartition) -> None:
        self.on_hold |= set(partitions)

    def paused(self) -> set[TopicPartition]:
        return self.on_hold

    def resume(self, *partitions: TopicPartition) -> None:
        self.on_hold -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Where it reads is of no concern here."""

    def highwater(self, part: TopicPartition) -> int | None:
        return self.fetched.get(part)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> Offsets:
        self.asked += partitions
        if LEADERLESS in partitions:
            raise LeaderNotAvailableError
        return dict.fromkeys(partitions, self.end)


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def positions(consumer: FakeConsumer) -> Positions:
    positions = Positions(consumer)
    positions.on_partitions_assigned([JOBS, EVENTS, LEADERLESS])
    positions.seek({JOBS: 4, EVENTS: 7, LEADERLESS: 0})
    return positions


async def test_it_grows_while_postgres_is_away(
    consumer: FakeConsumer, positions: Positions
) -> None:
    lag = LagWatch(consumer, positions)
    consumer.fetched = {JOBS: 10, EVENTS: 10}
    positions.resume(held_topics=())
    assert lag.by_topic() == {"jobs": 6, "events": 3}
    positions.forget()
    assert lag.by_topic() == {"jobs": 6, "events": 3}
    consumer.end = 1_000
    await lag.look()
    assert lag.by_topic() == {"jobs": 996, "events": 993}


async def test_what_is_held_back_until_others_have_caught_up_is_behind(
    consumer: FakeConsumer, positions: Positions
) -> None:
    lag = LagWatch(consumer, positions)
    consumer.fetched = {JOBS: 10}
    positions.resume(held_topics=["events"])
    assert lag.by_topic() == {"jobs": 6}
    await lag.look()
    assert lag.by_topic() == {"jobs": 6, "events": 3}


async def test_a_partition_that_is_fetched_is_not_asked_for(
    consumer: FakeConsumer, positions: Positions
) -> None:
    lag = LagWatch(consumer, positions)
    await lag.look()
    consumer.fetched = {JOBS: 11, EVENTS: 12}
    positions.resume(held_topics=())
    consumer.asked.clear()
    await lag.look()
    assert consumer.asked == [LEADERLESS]
    assert lag.by_topic() == {"jobs": 7, "events": 5}


async def test_records_that_no_longer_exist_do_not_count(
    consumer: FakeConsumer, positions: Positions
) -> None:
    positions.seek({JOBS: 0})
    positions.note_beginnings({JOBS: 8, EVENTS: 0})
    lag = LagWatch(consumer, positions)
    await lag.look()
    assert lag.by_topic()["jobs"] == 2


async def test_partitions_that_went_to_another_gateway_are_its_concern(
    consumer: FakeConsumer, positions: Positions
) -> None:
    lag = LagWatch(consumer, positions)
    positions.on_partitions_revoked([JOBS, EVENTS, LEADERLESS])
    await lag.look()
    assert lag.by_topic() == {"jobs": 6, "events": 3}
    positions.on_partitions_assigned([EVENTS])
    assert lag.by_topic() == {"events": 3}


async def test_when_kafka_is_lost_it_is_as_of_before(
    consumer: FakeConsumer, positions: Positions
) -> None:
    consumer.fetched = {JOBS: 10}
    lag = LedgerLag()
    assert lag.by_topic() == {}
    async with lag.watching(consumer, positions):
        assert lag.by_topic() == {"jobs": 6}
    assert lag.by_topic() == {"jobs": 6}
