"""What keeps the ledger's consumer from its work, and what does not."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.ledger import consumer
from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.positions import Positions
from gateway.settings import GatewaySettings


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

    async with asyncio.timeout(10):
        await LedgerConsumer(GatewaySettings())._commit(kafka, positions)

    assert kafka.commits == 1
