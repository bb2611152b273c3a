"""Load reports through FastStream, with its own test client in Kafka's place."""

import asyncio
import logging
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock

import pytest
from aiokafka.errors import KafkaConnectionError
from faststream.kafka import KafkaBroker, TestKafkaBroker
from prometheus_client import CollectorRegistry

from gateway.fleet.application import application, load_broker
from gateway.fleet.follower import LoadFollower
from gateway.fleet.known import KnownWorkers
from niyama.settings import KafkaSettings
from schemas.load import MAX_LOAD_BYTES
from tests.support.loads import load_report

SETTINGS = KafkaSettings()
TOPIC = SETTINGS.topics.load.name


@pytest.fixture
def workers() -> KnownWorkers:
    return KnownWorkers()


@pytest.fixture
async def kafka(workers: KnownWorkers) -> AsyncIterator[KafkaBroker]:
    async with TestKafkaBroker(load_broker(SETTINGS, workers)) as broker:
        yield broker


def names(workers: KnownWorkers) -> list[str]:
    return [each.report.worker_id for each in workers.all()]


async def test_each_report_replaces_its_workers_last(
    kafka: KafkaBroker, workers: KnownWorkers
) -> None:
    for decodes in (1, 2):
        report = load_report("w1", running_decodes=decodes)
        await kafka.publish(report.to_bytes(), TOPIC, key=b"default/w1")
    await kafka.publish(load_report("w2").to_bytes(), TOPIC, key=b"default/w2")
    assert [each.report.running_decodes for each in workers.all()] == [2, 0]


async def test_faststream_counts_what_was_read_and_what_was_skipped() -> None:
    registry = CollectorRegistry()
    (broker,) = application(SETTINGS, KnownWorkers(), registry).brokers
    assert isinstance(broker, KafkaBroker)
    async with TestKafkaBroker(broker) as kafka:
        for value in (load_report().to_bytes(), b"{", None):
            await kafka.publish(value, TOPIC, key=b"default/w1")
    labels = {"app_name": "niyama", "broker": "kafka", "handler": TOPIC}
    assert registry.get_sample_value("faststream_received_messages_total", labels) == 3
    skipped = labels | {"exception_type": "UnusableReportError"}
    name = "faststream_received_processed_messages_exceptions_total"
    assert registry.get_sample_value(name, skipped) == 1


async def test_an_empty_record_takes_the_worker_away(
    kafka: KafkaBroker, workers: KnownWorkers
) -> None:
    await kafka.publish(load_report("w1").to_bytes(), TOPIC, key=b"default/w1")
    await kafka.publish(None, TOPIC, key=b"default/w1")
    assert names(workers) == []


@pytest.mark.parametrize(
    "value",
    [b"{", b"[]", b"\xff", b"{}", b'{"schema_version": 9}', b" " * (MAX_LOAD_BYTES + 1)],
)
async def test_a_record_that_is_no_report_is_skipped_alone(
    kafka: KafkaBroker, workers: KnownWorkers, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await kafka.publish(load_report("w1").to_bytes(), TOPIC, key=b"default/w1")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await kafka.publish(value, TOPIC, key=b"default/w1", headers={"x": "y"})
    await kafka.publish(load_report("w2").to_bytes(), TOPIC, key=b"default/w2")
    assert names(workers) == ["w1", "w2"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # one for the three


async def test_a_report_without_a_key_counts_too(kafka: KafkaBroker, workers: KnownWorkers) -> None:
    await kafka.publish(load_report("w1").to_bytes(), TOPIC)
    assert names(workers) == ["w1"]


async def test_the_follower_starts_as_soon_as_kafka_answers_and_ends_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("niyama.retry.RETRY_INTERVAL_S", 0)
    known = KnownWorkers()
    running_application = application(SETTINGS, known)
    (broker,) = running_application.brokers
    started = AsyncMock(side_effect=[KafkaConnectionError("away"), None])
    stopped = AsyncMock()
    monkeypatch.setattr(broker, "start", started)
    monkeypatch.setattr(broker, "stop", stopped)
    follower = LoadFollower(running_application, known)
    running = asyncio.create_task(follower.run())
    assert not known.following
    while not known.following:
        await asyncio.sleep(0)
    assert started.await_count == 2
    follower.stop()
    await running
    assert stopped.await_count == 2  # once for the attempt that failed
