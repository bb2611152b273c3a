"""What keeps the ledger's consumer from its work, and what does not."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.ledger import consumer
from gateway.ledger.consumer import LedgerConsumer, SameNumbers
from gateway.ledger.positions import Positions
from gateway.settings import GatewaySettings
from tests.support.records import FakeRecord

EVENTS, QUIET = TopicPartition("niyama.events", 0), TopicPartition("niyama.events", 1)


class WithoutCoordinator(AIOKafkaConsumer):  # type: ignore[misc]
    """Its commits wait for the group's coordinator, which is away."""

    def __init__(self) -> None:
        self.commits = 0

    def __del__(self) -> None:
        """Nothing was started."""

    async def commit(self, offsets: object) -> None:
        self.commits += 1
        await asyncio.Event().wait()


async def test_a_group_without_a_coordinator_does_not_stop_the_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "COMMIT_TIMEOUT_S", 0.01)
    kafka = WithoutCoordinator()
    positions = Positions(kafka)
    positions.known = {TopicPartition("events", 0): 7}

    async with asyncio.timeout(60):
        await LedgerConsumer(GatewaySettings())._commit(kafka, positions)

    assert kafka.commits == 1


class Busy(AIOKafkaConsumer):  # type: ignore[misc]
    """Every poll but the last has a record of one partition, and another one never has any."""

    def __init__(self, polls: int) -> None:
        self._polls = iter(range(7, 7 + polls))
        self.asked = 0

    def __del__(self) -> None:
        """Nothing was started."""

    async def getmany(self, **_: object) -> dict[TopicPartition, list[FakeRecord]]:
        offset = next(self._polls, None)
        return {} if offset is None else {EVENTS: [FakeRecord(offset=offset)]}

    async def position(self, partition: TopicPartition) -> int:
        self.asked += 1
        return 7


async def test_positions_are_asked_for_now_and_then_while_records_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(consumer, "LOOK_INTERVAL_S", 3_600.0)
    ledger, kafka = LedgerConsumer(GatewaySettings()), Busy(polls=5)
    monkeypatch.setattr(ledger, "_write", nothing)
    positions = Positions(kafka)
    positions.known = {EVENTS: 7, QUIET: 7}

    asked = []
    for _ in range(6):
        await ledger._poll(kafka, positions)
        asked.append(kafka.asked)

    # At first, and then only when there is nothing else to do: of both, as neither had records.
    assert asked == [1, 1, 1, 1, 1, 3]


class Cluster:
    """Topics of six partitions, and one of a single one."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0} if topic == "control" else set(range(6))


def test_a_gateway_has_the_partitions_of_the_same_numbers_in_every_topic() -> None:
    topics = ["interactive", "batch", "events", "control"]
    members = {name: SameNumbers.metadata(topics) for name in ("one", "another")}

    assigned = SameNumbers.assign(Cluster(), members)

    for of_member in assigned.values():
        numbers = {topic: set(parts) for topic, parts in of_member.assignment}
        assert numbers["interactive"] == numbers["batch"] == numbers["events"]
        assert len(numbers["batch"]) == 3
