"""The FastStream application: what the gateway reads one message at a time."""

import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka import ConsumerRecord
from faststream import ExceptionMiddleware, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from faststream.specification import AsyncAPI
from prometheus_client import CollectorRegistry

from gateway.fleet.broker import Broker
from gateway.fleet.known import KnownWorkers
from gateway.fleet.topics import described
from niyama.kafka import source_of
from niyama.logs import Throttle
from niyama.settings import KafkaSettings
from schemas import JobError, LoadReport
from schemas.decode import decode_load
from schemas.message import SCHEMA_VERSION

log = logging.getLogger(__name__)

FETCH_BYTES = 256 * 1024
"""What is handled before anything else in this process has its turn: some 100 reports."""


class UnusableReportError(ValueError):
    """A record of the load topic is no report."""


def application(
    settings: KafkaSettings, known: KnownWorkers, registry: CollectorRegistry | None = None
) -> FastStream:
    """Not started. FastStream's own metrics go to `registry`.

    Its AsyncAPI document (`gateway.contract`) has every topic: what is read here, and what the rest
    of Niyama reads and writes with aiokafka.
    """
    broker = load_broker(settings, known)
    if registry is not None:
        broker.add_middleware(KafkaPrometheusMiddleware(registry=registry, app_name="niyama"))
    elsewhere = KafkaBroker(settings.kafka_bootstrap)  # never started
    for each in described(settings.topics):
        if each.topic != settings.topics.load:
            elsewhere.publisher(each.topic.name, schema=each.message or bytes)
    specification = AsyncAPI(
        broker,
        elsewhere,
        title="Niyama",
        version=str(SCHEMA_VERSION),
        description="Topics of the pool 'default'. Other pools have job topics of their own name. "
        "An operation's action is Niyama's: it receives what producers send.",
        schema_version="3.0.0",
    )
    return FastStream(broker, logger=log, specification=specification)


def load_broker(
    settings: KafkaSettings, known: KnownWorkers, clock: Callable[[], float] = time.time
) -> Broker:
    """A broker, not started, that tells `known` of every report. `clock` gives UTC epoch seconds.

    Every gateway reads the whole topic, from its beginning: no consumer group, nothing committed.
    """
    throttle = Throttle()
    unusable = ExceptionMiddleware()

    @unusable.add_handler(UnusableReportError)
    def skip(error: UnusableReportError) -> None:
        throttle.warning(log, "skipped a load report: %s", error)

    broker = Broker(settings, middlewares=[unusable])
    topic = settings.topics.load

    @broker.subscriber(
        topic.name,
        title=topic.name,
        description=topic.description,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        parser=_parse,
        decoder=_decode,
    )
    async def load_report(report: LoadReport | None, message: KafkaMessage) -> None:
        record: Any = message.raw_message
        key = record.key or b""
        if report is None:
            known.withdrawn(key)
        else:
            known.reported(key, report, max(0.0, clock() - record.timestamp / 1000))

    return broker


async def _parse(record: ConsumerRecord) -> KafkaMessage:
    """Without its headers, which nobody needs and anybody may have written."""
    return KafkaMessage(
        raw_message=record,
        body=record.value or b"",
        headers={},
        content_type=None,
        message_id=f"{record.partition}-{record.offset}",
        correlation_id=None,
        consumer=FAKE_CONSUMER,
    )


async def _decode(message: KafkaMessage) -> LoadReport | None:
    record: Any = message.raw_message
    if record.value is None:
        return None
    report = decode_load(record.value)
    if isinstance(report, JobError):
        raise UnusableReportError(f"{source_of(record)}: {report.message}")
    return report
