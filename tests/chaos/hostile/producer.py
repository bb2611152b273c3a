"""Publishes hostile records, past the client library."""

import asyncio
import contextlib
import random
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from niyama import KafkaSettings, kafka
from schemas import JobRequest
from schemas.event import Source
from tests.chaos.hostile.kinds import KINDS, HostileRecord, Setting
from tests.chaos.hostile.plan import PlannedRecord
from tests.chaos.hostile.transport import CODECS
from tests.chaos.journal import AcknowledgedJob, Journal

RUNNING_JOBS = 5
"""Of the jobs that were acknowledged, the last few run most probably."""
MAX_UNCOMPRESSED = 64 * 1024 * 1024
"""Bytes of a record before it is compressed: only what the broker refuses is not sent."""
TRANSACTION_MS = 5_000
"""After which a broker aborts a transaction that its own outage left open."""


@dataclass(frozen=True, slots=True)
class SentRecord:
    """A hostile record that Kafka took, or did not."""

    kind: str
    topic: str
    at_s: float
    """UTC epoch seconds."""
    source: Source | None
    """Where it is. None: it was not acknowledged."""


class HostileProducer:
    """Publishes a plan's records, past the client library."""

    def __init__(
        self,
        settings: KafkaSettings,
        journal: Journal,
        published: Sequence[JobRequest],
        engine: str,
        model: str,
    ) -> None:
        self.sent: list[SentRecord] = []
        self._settings = settings
        self._journal = journal
        self._published = published
        self._engine = engine
        self._model = model

    async def run(self, plan: list[PlannedRecord]) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with AsyncExitStack() as stack:
            producers = {
                codec: await stack.enter_async_context(
                    kafka.producer(
                        self._settings, compression_type=codec, max_request_size=MAX_UNCOMPRESSED
                    )
                )
                for codec in (None, *CODECS)
            }
            async with asyncio.TaskGroup() as tasks:
                for planned in plan:
                    await asyncio.sleep(start_s + planned.at_s - loop.time())
                    record = KINDS[planned.kind].make(self._setting(planned))
                    send = _abort if record.aborted else _send
                    sending = send(self._settings, producers[record.codec], record)
                    tasks.create_task(self._record(planned, record, sending))

    def _setting(self, planned: PlannedRecord) -> Setting:
        return Setting(
            random.Random(planned.salt),
            self._settings.topics,
            self._engine,
            self._model,
            running=list(self._journal.jobs.values())[-RUNNING_JOBS:],
            published=self._published,
        )

    async def _record(
        self, planned: PlannedRecord, record: HostileRecord, sending: Coroutine[Any, Any, Source]
    ) -> None:
        asked_at_s = time.time()
        source = None
        with contextlib.suppress(KafkaError):
            source = await sending
        self.sent.append(SentRecord(planned.kind, record.topic, asked_at_s, source))
        if source and record.refused:
            self._journal.refused[source] = planned.kind
        if source and record.expectation and record.job_id:
            origin = f"hostile {planned.kind}"
            self._journal.acknowledge(
                AcknowledgedJob(
                    record.job_id, origin, asked_at_s, record.expectation, source=source
                )
            )


async def _send(_: KafkaSettings, producer: AIOKafkaProducer, record: HostileRecord) -> Source:
    sent = await producer.send_and_wait(
        record.topic,
        record.value,
        key=record.key,
        headers=list(record.headers),
        timestamp_ms=record.timestamp_ms,
    )
    return Source(topic=sent.topic, partition=sent.partition, offset=sent.offset)


async def _abort(settings: KafkaSettings, _: AIOKafkaProducer, record: HostileRecord) -> Source:
    """In a transaction of its own, by a producer of its own: an outage may spoil both."""
    transactional = kafka.producer(
        settings,
        transactional_id=f"chaos-{record.job_id}",
        transaction_timeout_ms=TRANSACTION_MS,
    )
    async with transactional:
        await transactional.begin_transaction()
        source = await _send(settings, transactional, record)
        await transactional.abort_transaction()
    return source
