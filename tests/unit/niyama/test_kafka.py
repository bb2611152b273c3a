"""What Kafka's answers mean, and those of brokers that never answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Self

import aiokafka.client
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import (
    BrokerResponseError,
    InvalidReplicationFactorError,
    KafkaError,
    PolicyViolationError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
)
from aiokafka.protocol.metadata import MetadataResponse_v4
from aiokafka.structs import OffsetAndMetadata

from niyama import bootstrapping, kafka
from niyama import retry as retrying
from niyama.errors import UnavailableError
from niyama.kafka import committed_offsets
from niyama.settings import KafkaSettings
from schemas.topics import TopicSpec
from tests.support import frozen_brokers
from tests.support.virtual_time import run_in_virtual_time

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


class FakeCluster:
    """Takes the answers to requests to create topics, one after the other."""

    def __init__(self, *answers: list[tuple[str, int, str | None]]) -> None:
        self._answers = list(answers)

    @asynccontextmanager
    async def admin(self, _: KafkaSettings) -> AsyncIterator[Self]:
        yield self

    async def list_topics(self) -> list[str]:
        return []

    async def create_topics(self, _: Sequence[NewTopic]) -> SimpleNamespace:
        return SimpleNamespace(topic_errors=self._answers.pop(0))


@pytest.mark.parametrize("error", [RequestTimedOutError, InvalidReplicationFactorError])
async def test_a_cluster_that_still_starts_is_waited_for(
    error: type[BrokerResponseError], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster([("jobs", error.errno, "not yet")], [("jobs", 0, None)])
    monkeypatch.setattr(kafka, "admin", cluster.admin)
    monkeypatch.setattr(retrying, "RETRY_INTERVAL_S", 0)
    async with asyncio.timeout(60):
        await kafka.prepare_topics(KafkaSettings(), [TopicSpec("jobs", 1, 3600, "")])


async def test_a_refusal_is_final_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ("jobs", PolicyViolationError.errno, "too many topics")
    late = ("events", RequestTimedOutError.errno, None)
    there = ("control", TopicAlreadyExistsError.errno, None)
    cluster = FakeCluster([late, refused, there])
    monkeypatch.setattr(kafka, "admin", cluster.admin)
    specs = [TopicSpec(name, 1, 3600, "") for name in ("events", "jobs", "control")]
    message = "Kafka does not create jobs: PolicyViolationError too many topics$"
    with pytest.raises(UnavailableError, match=message):
        await kafka.prepare_topics(KafkaSettings(), specs)


@pytest.fixture
def frozen_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients ask the servers in the order in which they are listed, and do not wait long."""
    collect = aiokafka.client.collect_hosts
    monkeypatch.setattr(aiokafka.client, "collect_hosts", lambda hosts: collect(hosts, False))
    monkeypatch.setattr(bootstrapping, "SERVER_TIMEOUT_MS", 300)
    monkeypatch.setattr(kafka, "NODE_TIMEOUT_MS", 300)


@pytest.mark.usefixtures("frozen_first")
async def test_a_frozen_server_is_passed_over_and_other_requests_keep_their_time() -> None:
    async with frozen_brokers.cluster(2) as cluster, asyncio.timeout(60):
        settings = KafkaSettings(kafka_bootstrap=cluster.bootstrap)
        await kafka.probe(settings)
        producer = kafka.producer(settings, request_timeout_ms=10_000)
        try:
            await producer.client.bootstrap()
            assert producer.client._request_timeout_ms == 10_000
        finally:
            await producer.stop()


class SlowConnection:
    """To a broker that needs two seconds for whatever it is asked."""

    STEP_S = 2.0

    def __init__(self, request_timeout_ms: int) -> None:
        self._timeout_s = request_timeout_ms / 1000

    @classmethod
    async def create(cls, *_: object, request_timeout_ms: int, **__: object) -> Self:
        connection = cls(request_timeout_ms)
        await connection._take_a_step()
        return connection

    async def send(self, _: object) -> MetadataResponse_v4:
        await self._take_a_step()
        return MetadataResponse_v4(0, [(0, "a", 1, None)], "cluster", 0, [])

    def close(self) -> None:
        """Nothing to close."""

    async def _take_a_step(self) -> None:
        async with asyncio.timeout(self._timeout_s):
            await asyncio.sleep(self.STEP_S)


@pytest.mark.parametrize("servers", ["a:1", "a:1,b:2,c:3"])
def test_a_cluster_that_is_slow_throughout_is_reached(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiokafka.client, "create_conn", SlowConnection.create)
    run_in_virtual_time(kafka.probe(KafkaSettings(kafka_bootstrap=servers)))


@pytest.mark.usefixtures("frozen_first")
async def test_a_frozen_broker_is_no_fault_of_a_topic() -> None:
    async with frozen_brokers.cluster(2) as cluster, asyncio.timeout(60):
        settings = KafkaSettings(kafka_bootstrap=cluster.bootstrap)
        assert await kafka.topic_fault(settings, frozen_brokers.TOPIC) is None
