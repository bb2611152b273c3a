"""The FastStream application: what the gateway reads and may miss."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from faststream import FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from faststream.specification import AsyncAPI
from prometheus_client import CollectorRegistry

from gateway.fleet.broker import Broker
from gateway.fleet.fleet import Fleet
from gateway.fleet.operations import Operation, operations
from niyama.kafka import source_of
from niyama.logs import Throttle
from niyama.settings import KafkaSettings
from schemas.load import MAX_LOAD_BYTES
from schemas.message import SCHEMA_VERSION

log = logging.getLogger(__name__)

FETCH_BYTES = 256 * 1024
"""Of one fetch. A broker answers when it has as much, or after FETCH_WAIT_MS: many workers' reports
are read together."""
FETCH_WAIT_MS = 500
MAX_BATCH_RECORDS = 1_000
"""Handled before anything else in this process has its turn. A fetch may hold 250,000."""
MAX_KEY_BYTES = 1_024
"""A longer key names no worker."""


def application(
    settings: KafkaSettings, fleet: Fleet, registry: CollectorRegistry | None = None
) -> FastStream:
    """Not started. FastStream's own metrics go to `registry`.

    Its AsyncAPI document (completed by `gateway.contract`) has every topic: what is read here, and
    what the rest of Niyama reads and writes with aiokafka.
    """
    broker = load_broker(settings, fleet)
    if registry is not None:
        broker.add_middleware(KafkaPrometheusMiddleware(registry=registry, app_name="niyama"))
    elsewhere = KafkaBroker(settings.kafka_bootstrap)  # never started
    for each in operations(settings.topics):
        _declare(each, elsewhere)
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


def _declare(operation: Operation, broker: KafkaBroker) -> None:
    """Have the operation in the document, as far as FastStream has words for it."""
    topic, title, description = operation.address, operation.name, operation.description
    message = operation.message or bytes
    if operation.action == "send":
        broker.publisher(topic, title=title, description=description, schema=message)
        return

    async def handler(message: object) -> None:
        """Never called: FastStream takes the type of the payload from it."""

    handler.__annotations__["message"] = message
    broker.subscriber(topic, title=title, description=description)(handler)


def load_broker(
    settings: KafkaSettings, fleet: Fleet, clock: Callable[[], float] = time.time
) -> Broker:
    """A broker, not started, that tells `fleet` of every report. `clock` gives UTC epoch seconds.

    Every gateway reads the whole topic, from its beginning: no consumer group, nothing committed.
    """
    throttle, history = Throttle(), _History()
    # Without FastStream's injection of arguments, which costs more than all the rest.
    broker = Broker(settings, apply_types=False)

    subscriber = broker.subscriber(
        settings.topics.load.name,
        batch=True,
        max_records=MAX_BATCH_RECORDS,
        auto_offset_reset="earliest",
        fetch_min_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
        parser=_parse,
        decoder=_records,
        title=settings.topics.load.name,
        include_in_schema=False,  # of records; that of reports is declared with the other topics
    )

    @subscriber
    async def load_reports(records: Sequence[ConsumerRecord]) -> None:
        history.seen_by(subscriber.consumer)
        _tell(fleet, records, history, clock(), throttle)
        await asyncio.sleep(0)  # there may be a next batch, which is not waited for

    return broker


class _History:
    """The records that had been there before this gateway began to read.

    Only those may be of workers that have long been gone. What comes later is new, whatever the
    clocks say that stamp it and that this gateway has.
    """

    def __init__(self) -> None:
        self._ends: dict[TopicPartition, int] = {}

    def seen_by(self, consumer: AIOKafkaConsumer | None) -> None:
        """Call it with each batch: where a log ends when something of it is read first, counts."""
        if consumer is None:
            return
        for part in consumer.assignment() - self._ends.keys():
            if (end := consumer.highwater(part)) is not None:
                self._ends[part] = end

    def age_s(self, record: ConsumerRecord, now_s: float) -> float:
        """How old the record was when reading began, if it was there; else 0."""
        end = self._ends.get(TopicPartition(record.topic, record.partition))
        if end is not None and record.offset >= end:
            return 0.0
        stamped_s: float = record.timestamp / 1000
        return max(0.0, now_s - stamped_s)


def _tell(
    fleet: Fleet,
    records: Sequence[ConsumerRecord],
    history: _History,
    now_s: float,
    throttle: Throttle,
) -> None:
    """Of each key only the last record: it replaces those before it."""
    last: dict[bytes, ConsumerRecord] = {record.key or b"": record for record in records}
    for key, record in last.items():
        if record.value is None:
            fleet.withdrawn(key)
        elif (fault := _fault(key, record.value)) is not None:
            throttle.warning(log, "skipped a load report: %s: %s", source_of(record), fault)
        else:
            fleet.heard(key, record.value, history.age_s(record, now_s))


def _fault(key: bytes, value: bytes) -> str | None:
    """What can be seen without reading the record."""
    if not 0 < len(key) <= MAX_KEY_BYTES:
        return f"its key has {len(key)} bytes"
    if len(value) > MAX_LOAD_BYTES:
        return f"it has {len(value):,} bytes; at most {MAX_LOAD_BYTES:,} are allowed"
    return None


async def _parse(records: Sequence[ConsumerRecord]) -> KafkaMessage:
    """Without their headers, which nobody needs and anybody may have written."""
    first, last = records[0], records[-1]
    return KafkaMessage(
        raw_message=tuple(records),
        body=[record.value or b"" for record in records],
        headers={},
        content_type=None,
        message_id=f"{first.partition}-{first.offset}-{last.offset}",
        correlation_id=None,
        consumer=FAKE_CONSUMER,
    )


async def _records(message: KafkaMessage) -> Any:
    return message.raw_message
