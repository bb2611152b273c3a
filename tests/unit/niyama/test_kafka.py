"""What Kafka's answers mean, and those of brokers that never answer."""

import asyncio

import aiokafka.client
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from niyama import bootstrapping, kafka
from niyama.kafka import committed_offsets
from niyama.settings import KafkaSettings
from tests.support import frozen_brokers

ONE, OTHER = TopicPartition("jobs", 0), TopicPartition("jobs", 1)


class FakeAdmin:
    def __init__(self, answer: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self._answer = answer

    async def list_consumer_group_offsets(
        self, group: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return self._answer


async def test_partitions_without_a_commit_have_an_offset_too() -> None:
    answer = {ONE: OffsetAndMetadata(7, ""), OTHER: OffsetAndMetadata(-1, "")}
    assert await committed_offsets(FakeAdmin(answer), "group", [ONE, OTHER]) == answer


async def test_an_answer_that_lacks_partitions_is_an_error_and_not_an_empty_group() -> None:
    """As of a coordinator that still loads the group: aiokafka returns an empty answer."""
    with pytest.raises(KafkaError, match="does not return the offsets of group"):
        await committed_offsets(FakeAdmin({}), "group", {ONE})


@pytest.fixture
def frozen_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients ask the servers in the order in which they are listed, and do not wait long."""
    collect = aiokafka.client.collect_hosts
    monkeypatch.setattr(aiokafka.client, "collect_hosts", lambda hosts: collect(hosts, False))
    monkeypatch.setattr(bootstrapping, "SERVER_TIMEOUT_MS", 50)
    monkeypatch.setattr(kafka, "NODE_TIMEOUT_MS", 50)


@pytest.mark.usefixtures("frozen_first")
async def test_a_frozen_server_is_passed_over_and_other_requests_keep_their_time() -> None:
    async with frozen_brokers.cluster(2) as cluster, asyncio.timeout(10):
        settings = KafkaSettings(kafka_bootstrap=cluster.bootstrap)
        await kafka.probe(settings)
        producer = kafka.producer(settings, request_timeout_ms=10_000)
        try:
            await producer.client.bootstrap()
            assert producer.client._request_timeout_ms == 10_000
        finally:
            await producer.stop()


@pytest.mark.usefixtures("frozen_first")
async def test_a_frozen_broker_is_no_fault_of_a_topic() -> None:
    async with frozen_brokers.cluster(2) as cluster, asyncio.timeout(10):
        settings = KafkaSettings(kafka_bootstrap=cluster.bootstrap)
        assert await kafka.topic_fault(settings, frozen_brokers.TOPIC) is None
