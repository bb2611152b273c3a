"""Publishes a worker's load reports: best effort, beside everything else that the worker does.

Nothing waits for it, at most one report is on its way, and what Kafka does not take is dropped:
the next report replaces it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from niyama import kafka
from niyama.logs import Throttle
from niyama.producers import disconnect
from niyama.settings import KafkaSettings
from niyama.waiting import is_set_within
from schemas import LoadReport, TopicSpec

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Between two reports, unless something changes."""
LEAST_GAP_S = 0.2
"""Between two reports, whatever changes."""
SEND_LIMIT_S = 5.0
"""For Kafka to take a report, or a connection."""
PAUSE_S = 5.0
"""After a failure, until the next attempt."""
WITHDRAWAL_LIMIT_S = 2.0
FLUSH_LIMIT_S = 1.0

Send = Callable[[bytes | None], Awaitable[object]]
"""Returns when Kafka has the worker's new report, or knows that it has none."""
Connect = Callable[[], AbstractAsyncContextManager[Send]]


class LoadPublisher:
    """`run` must be running."""

    def __init__(self, connect: Connect, make: Callable[[], LoadReport]) -> None:
        """`make` says how busy the worker is now."""
        self._connect = connect
        self._make = make
        self._changed = asyncio.Event()
        self._withdrawing = False
        self._withdrawn = asyncio.Event()
        self._throttle = Throttle()

    def changed(self) -> None:
        """What the next report will say should be known soon."""
        self._changed.set()

    async def withdraw(self) -> None:
        """The worker ends in order: nobody has to find out that it is gone."""
        self._withdrawing = True
        self._changed.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHDRAWAL_LIMIT_S):
                await self._withdrawn.wait()

    async def run(self) -> None:
        """Publish until cancelled, or withdrawn. Whatever fails here, the worker serves on."""
        while not self._withdrawn.is_set():
            try:
                async with self._connect() as send:
                    await self._publish(send)
                self._withdrawn.set()
            except Exception as error:
                self._throttle.warning(
                    log, "load reports do not reach Kafka; the worker serves on: %r", error
                )
                await asyncio.sleep(PAUSE_S)

    async def _publish(self, send: Send) -> None:
        """Until the last report is withdrawn."""
        while not self._withdrawing:
            self._changed.clear()
            await _within_limit(send(self._make().to_bytes()))
            await asyncio.sleep(LEAST_GAP_S)
            await is_set_within(self._changed, INTERVAL_S - LEAST_GAP_S)
        await _within_limit(send(None))


@asynccontextmanager
async def connection(settings: KafkaSettings, topic: TopicSpec, key: bytes) -> AsyncIterator[Send]:
    """To `topic`, which is created if it is missing, for the worker of this key.

    Raises KafkaError, UnavailableError, TimeoutError.
    """
    # A broker that creates topics by itself would keep every report for a week.
    await _within_limit(kafka.ensure_topics(settings, [topic]))
    producer = kafka.producer(
        settings,
        acks=1,
        enable_idempotence=False,
        request_timeout_ms=int(SEND_LIMIT_S * 1000),
    )
    try:
        await _within_limit(producer.start())
        yield lambda value: producer.send_and_wait(topic.name, value, key=key)
    finally:
        await disconnect(producer, FLUSH_LIMIT_S)


async def _within_limit(work: Awaitable[object]) -> None:
    async with asyncio.timeout(SEND_LIMIT_S):
        await work
