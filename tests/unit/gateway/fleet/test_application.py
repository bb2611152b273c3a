"""Load reports through FastStream, with its own test client in Kafka's place."""

import logging
import time
from collections.abc import AsyncIterator
from unittest.mock import Mock

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from faststream.kafka import KafkaBroker, TestKafkaBroker
from prometheus_client import CollectorRegistry

from gateway.fleet.application import MAX_KEY_BYTES, application, load_broker
from gateway.fleet.fleet import Fleet
from niyama.settings import KafkaSettings
from schemas.load import MAX_LOAD_BYTES
from tests.support.loads import load_report

SETTINGS = KafkaSettings()
TOPIC = SETTINGS.topics.load.name


@pytest.fixture
def workers() -> Fleet:
    return Fleet()


@pytest.fixture
async def kafka(workers: Fleet) -> AsyncIterator[KafkaBroker]:
    async with TestKafkaBroker(load_broker(SETTINGS, workers)) as broker:
        yield broker


async def names(workers: Fleet) -> list[str]:
    return [each.report.worker_id for each in workers.all()]


def record(offset: int, key: bytes | None, value: bytes | None) -> ConsumerRecord:
    now_ms = int(time.time() * 1000)
    headers = [("odd", None), ("odd", b"\xff")]
    return ConsumerRecord(TOPIC, 0, offset, now_ms, 1, key, value, None, 0, 0, headers)


async def test_each_report_replaces_its_workers_last(kafka: KafkaBroker, workers: Fleet) -> None:
    for decodes in (1, 2):
        report = load_report("w1", running_decodes=decodes)
        await kafka.publish(report.to_bytes(), TOPIC, key=b"default/w1")
    await kafka.publish(load_report("w2").to_bytes(), TOPIC, key=b"default/w2")
    assert [each.report.running_decodes for each in workers.all()] == [2, 0]


async def test_faststream_counts_the_records_that_were_read() -> None:
    registry = CollectorRegistry()
    (broker,) = application(SETTINGS, Fleet(), registry).brokers[:1]
    assert isinstance(broker, KafkaBroker)
    async with TestKafkaBroker(broker):
        (subscriber,) = broker.subscribers
        await subscriber.process_message(
            tuple(record(offset, b"default/w1", b"{") for offset in range(3))
        )
    labels = {"app_name": "niyama", "broker": "kafka", "handler": TOPIC}
    assert registry.get_sample_value("faststream_received_messages_total", labels) == 3


async def test_an_empty_record_takes_the_worker_away(kafka: KafkaBroker, workers: Fleet) -> None:
    await kafka.publish(load_report("w1").to_bytes(), TOPIC, key=b"default/w1")
    await kafka.publish(None, TOPIC, key=b"default/w1")
    assert await names(workers) == []


async def test_of_a_batch_the_last_record_of_each_key_counts(
    kafka: KafkaBroker, workers: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many records there are, little is done with each."""
    heard = Mock(wraps=workers.heard)
    monkeypatch.setattr(workers, "heard", heard)
    one, two = (load_report(name).to_bytes() for name in ("w1", "w2"))
    batch = [record(offset, b"default/w1", b"garbage") for offset in range(1_000)]
    batch += [record(1_000, b"default/w2", two), record(1_001, b"default/w1", one)]
    (subscriber,) = kafka.subscribers
    await subscriber.process_message(tuple(batch))
    assert heard.call_count == 2
    assert await names(workers) == ["w1", "w2"]


class FakeConsumer:
    """Of a topic that had 10 records when it was read first."""

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(TOPIC, 0)}

    def highwater(self, _partition: TopicPartition) -> int:
        return 10


async def test_only_what_was_there_before_is_left_out_for_its_age(
    workers: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the time is here, or where it was stamped."""
    ahead_s = 3_600.0
    broker = load_broker(SETTINGS, workers, lambda: time.time() + ahead_s)
    async with TestKafkaBroker(broker):
        (subscriber,) = broker.subscribers
        monkeypatch.setattr(subscriber, "consumer", FakeConsumer())
        batch = [
            record(offset, f"default/w{offset}".encode(), load_report(f"w{offset}").to_bytes())
            for offset in (8, 9, 10, 11)
        ]
        await subscriber.process_message(tuple(batch))
    assert await names(workers) == ["w10", "w11"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, load_report("w1").to_bytes()),
        (b"", load_report("w1").to_bytes()),
        (b"k" * (MAX_KEY_BYTES + 1), b"{"),
        (b"default/w1", b" " * (MAX_LOAD_BYTES + 1)),
    ],
)
async def test_what_cannot_be_a_report_is_not_kept(
    kafka: KafkaBroker,
    workers: Fleet,
    key: bytes | None,
    value: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await kafka.publish(load_report("w2").to_bytes(), TOPIC, key=b"default/w2")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await kafka.publish(value, TOPIC, key=key)
    assert await names(workers) == ["w2"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # one for the three
