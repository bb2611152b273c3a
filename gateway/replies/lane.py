"""The way to one reply topic: its own transactional producer, so that no topic waits for another.

A transaction spans all the partitions that it writes to, and one of them without a leader keeps it,
and its transactional id, from ever ending. With an id per topic, that topic alone is stuck.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)

from gateway.replies.waiting import Reply
from gateway.settings import GatewaySettings
from niyama import kafka
from niyama.producers import disconnect
from schemas.reply import ReplySent
from schemas.topics import MAX_RECORD_BYTES, record_key

OPEN_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 10.0
"""Of a transaction, from its beginning to its end."""
TRANSACTION_TIMEOUT_MS = 15_000
"""After which Kafka ends a transaction whose producer is gone."""
FLUSH_TIMEOUT_S = 1.0


class LaneError(Exception):
    """This topic takes no replies now: says why. Others are not concerned."""


class TooLargeError(Exception):
    """One of these replies, or all together, are larger than the topic allows. None was sent."""

    def __init__(self, replies: Sequence[Reply], reason: str) -> None:
        super().__init__(reason)
        self.replies = replies


class Lane:
    """Writes to one topic. After any error it is to be closed."""

    def __init__(self, settings: GatewaySettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._notes = settings.topics.replies_sent.name
        self._producer: AIOKafkaProducer = kafka.producer(
            settings,
            transactional_id=f"{settings.topic_prefix}-replies-{topic}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=int(SEND_TIMEOUT_S * 1000),
        )

    async def open(self) -> None:
        """From now on, no transaction that another relay began for this topic can be committed.

        Raises LaneError.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                if fault := await self._fault():
                    raise LaneError(fault)
                await self._producer.start()
        except TimeoutError as error:
            raise LaneError(f"no answer within {OPEN_TIMEOUT_S:g} s") from error
        except KafkaError as error:
            raise LaneError(repr(error)) from error

    async def send(self, replies: Sequence[Reply]) -> None:
        """Publish `replies`, and the notes that they were sent, all or nothing.

        Raises TooLargeError; LaneError, after which they may have been published or not; and
        ProducerFenced when another relay has opened its lane to this topic.
        """
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._producer.begin_transaction()
                await self._publish_all(replies)
                await self._note_all(replies)
                await self._producer.commit_transaction()
        except ProducerFenced:
            raise
        except MessageSizeTooLargeError as error:
            raise TooLargeError(replies, repr(error)) from error
        except TimeoutError as error:
            raise LaneError(f"no answer within {SEND_TIMEOUT_S:g} s") from error
        except KafkaError as error:
            raise LaneError(repr(error)) from error

    async def close(self) -> None:
        """Disconnect. What is not committed never will be."""
        await disconnect(self._producer, FLUSH_TIMEOUT_S)

    async def _fault(self) -> str | None:
        """What keeps the topic from taking records, if it can be seen. May create the topic."""
        fault = await kafka.topic_fault(self._settings, self._topic)
        if fault != kafka.MISSING_TOPIC or not self._settings.create_reply_topics:
            return fault
        # It carries whatever the events topic carries.
        topic = kafka.new_topic(self._topic, configs={"max.message.bytes": str(MAX_RECORD_BYTES)})
        refused = await kafka.create_missing(self._settings, [topic])
        if refused:
            return f"Kafka does not create the topic: {refused[self._topic]}"
        return None

    async def _publish_all(self, replies: Sequence[Reply]) -> None:
        await _all(
            self._producer.send_and_wait(
                reply.topic, reply.value, key=record_key(reply.job_id), headers=reply.headers
            )
            for reply in replies
        )

    async def _note_all(self, replies: Sequence[Reply]) -> None:
        # After the replies: a reader of the notes waits for open transactions that wrote some,
        # so a transaction whose topic hangs must not have written any.
        now = datetime.now(UTC)
        notes = [
            ReplySent(job_id=reply.job_id, reply_topic=reply.topic, sent_at=now)
            for reply in replies
        ]
        await _all(
            self._producer.send_and_wait(
                self._notes, note.to_bytes(), key=record_key(note.job_id), partition=0
            )
            for note in notes
        )


async def _all(sending: Iterable[Awaitable[object]]) -> None:
    """Wait for all of them, then raise the first error, if any."""
    for outcome in await asyncio.gather(*sending, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
