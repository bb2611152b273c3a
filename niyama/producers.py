"""What aiokafka's producers lack: bounds, and a way on from an error that they do not expect."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from aiokafka.structs import RecordMetadata

from niyama.retry import retry

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 300.0
"""An idempotent producer sends a record again for as long as its broker does not answer."""
FLUSH_TIMEOUT_S = 30.0
"""For what is still being sent when a producer is left."""
DISCONNECT_TIMEOUT_S = 1.0


class LastingProducer:
    """A Kafka producer that is replaced when the task that sends its records has ended.

    That task ends at an answer that aiokafka does not expect, such as a timeout when it asks for a
    producer id in the middle of an outage. From then on its producer refuses every record.
    Use it as an async context manager.
    """

    def __init__(self, create: Callable[[], AIOKafkaProducer]) -> None:
        """`create` returns a producer that is not started."""
        self._create = create

    async def __aenter__(self) -> Self:
        """Raises KafkaError."""
        self._producer = await self._connect()
        self._replacing = asyncio.create_task(self._replace_ended())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is under way, then disconnect."""
        self._replacing.cancel()
        await asyncio.wait({self._replacing})
        await disconnect(self._producer, FLUSH_TIMEOUT_S)

    @property
    def connected(self) -> bool:
        """False while the producer is being replaced."""
        return not _sending(self._producer).done()

    async def send(self, topic: str, value: bytes, **options: Any) -> RecordMetadata:
        """Return once Kafka has the record; `options` are those of aiokafka.

        Raises KafkaError. After that the record may have been written or not.
        """
        if not self.connected:
            raise KafkaConnectionError("reconnecting to Kafka")
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                return await self._producer.send_and_wait(topic, value, **options)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"no answer within {SEND_TIMEOUT_S:g} s") from error

    async def _connect(self) -> AIOKafkaProducer:
        producer = self._create()
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _replace_ended(self) -> None:
        while True:
            await asyncio.wait({_sending(self._producer)})
            log.warning("a producer has ended; reconnecting to Kafka")
            self._producer = await retry(
                self._reconnect, Exception, notice="still reconnecting", log=log
            )

    async def _reconnect(self) -> AIOKafkaProducer:
        await disconnect(self._producer, FLUSH_TIMEOUT_S)
        return await self._connect()


async def disconnect(producer: AIOKafkaProducer, flush_timeout_s: float) -> None:
    """Stop `producer`; drop what it cannot deliver in time."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(flush_timeout_s):
            await producer.stop()
            return
    # It waits for records that it cannot deliver. aiokafka has no way to drop them.
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(DISCONNECT_TIMEOUT_S):
            await producer.client.close()
            await producer._sender.close()
    producer._message_accumulator.fail_all(KafkaConnectionError("the connection was closed"))


def _sending(producer: AIOKafkaProducer) -> "asyncio.Task[None]":
    """The task that sends what was put into the queue of `producer`, which is started."""
    task: asyncio.Task[None] = producer._sender.sender_task
    return task
