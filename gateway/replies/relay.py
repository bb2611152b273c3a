"""Sends terminal events to the topics that jobs named, exactly once for read-committed readers.

One gateway at a time is the relay. It repeats three steps:

(a) Postgres: give some due rows of the outbox the next batch number,
(b) Kafka, in one transaction: publish them, and commit the batch number as the offset of a
    consumer group that nothing else uses,
(c) Postgres: delete the rows of that batch.

Wherever it dies, the group's offset says which batches were published. The next relay first
fences the transactions of the last one, then deletes the rows of published batches, and clears
the batch numbers of all others.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata

from gateway.database import UNREACHABLE, connect
from gateway.ledger import reply_outbox
from gateway.ledger.reply_outbox import Reply
from gateway.settings import GatewaySettings
from niyama import kafka
from niyama.retry import retry

log = logging.getLogger(__name__)

LOCK_INTERVAL_S = 1.0
POLL_INTERVAL_S = 0.25
SEND_TIMEOUT_MS = 15_000

UNDELIVERABLE = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
"""Errors of one reply, not of Kafka."""


class UndeliverableError(Exception):
    """Some replies of a batch cannot be published: `failures` says which, and why."""

    def __init__(self, failures: Mapping[Reply, str]) -> None:
        super().__init__(f"{len(failures)} replies")
        self.failures = failures


class ReplyRelay:
    """Empties the outbox, while this gateway holds the lock."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._group = f"{settings.topic_prefix}-replies"
        self._progress = TopicPartition(settings.topics.events.name, 0)
        self._existing_topics: set[str] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There is something in the outbox now."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the current batch."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Relay until `stop`. Kafka and Postgres may come and go."""
        outages = (KafkaError, asyncpg.PostgresError, *UNREACHABLE)
        await retry(self._take_turn, *outages, notice="replies wait in the outbox", log=log)

    async def _take_turn(self) -> None:
        """Wait for the lock, then relay until `stop`, or an error."""
        if self._stopping:
            return
        # Every statement goes through the connection that holds the lock: when one is lost, so
        # is the other. Commits are durable here, unlike the ledger's: a published batch that lost
        # its number in a crash would be published again.
        connection = await connect(self._settings, "replies")
        try:
            while not self._stopping:
                if await reply_outbox.take_lock(connection):
                    await self._relay(connection)
                    return
                await self._sleep(LOCK_INTERVAL_S)
        finally:
            connection.terminate()

    async def _relay(self, connection: asyncpg.Connection) -> None:
        producer = kafka.producer(
            self._settings,
            transactional_id=self._group,
            request_timeout_ms=SEND_TIMEOUT_MS,
        )
        try:
            await producer.start()  # fences earlier relays: none of them can commit now
            number = await self._published_batches()
            await reply_outbox.delete_published(connection, number)
            await reply_outbox.clear_numbers(connection)
            while not self._stopping:
                if await self._send_batch(connection, producer, number + 1):
                    number += 1
        finally:
            await producer.stop()

    async def _published_batches(self) -> int:
        """The number of the last batch that was published."""
        async with kafka.admin(self._settings) as admin:
            offsets = await kafka.committed_offsets(admin, self._group, [self._progress])
        last: int = offsets[self._progress].offset
        return max(0, last)  # -1: none was published yet

    async def _send_batch(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer, number: int
    ) -> bool:
        """Send what is due as batch `number`. Returns whether it was published."""
        self._wake.clear()
        replies = await reply_outbox.number_due(connection, number)
        if not replies:
            await self._sleep(POLL_INTERVAL_S)
            return False
        try:
            await self._ensure_topics(replies)
            await self._publish(producer, replies, number)
        except UndeliverableError as error:
            await self._postpone(connection, error.failures)
            return False
        await reply_outbox.delete_published(connection, number)
        return True

    async def _publish(
        self, producer: AIOKafkaProducer, replies: Sequence[Reply], number: int
    ) -> None:
        async with producer.transaction():
            failures = await _send(producer, replies)
            if failures:
                self._existing_topics.clear()
                raise UndeliverableError(failures)
            await producer.send_offsets_to_transaction(
                {self._progress: OffsetAndMetadata(number, "")}, self._group
            )

    async def _postpone(
        self, connection: asyncpg.Connection, failures: Mapping[Reply, str]
    ) -> None:
        for reply, reason in failures.items():
            log.warning("no reply to %s for job %s yet: %s", reply.topic, reply.job_id, reason)
        await reply_outbox.postpone(connection, failures)
        await reply_outbox.clear_numbers(connection)

    async def _ensure_topics(self, replies: Sequence[Reply]) -> None:
        """Create reply topics that are missing, with the broker's defaults."""
        topics = {reply.topic for reply in replies}
        if topics <= self._existing_topics:
            return
        wanted = [kafka.new_topic(name) for name in sorted(topics)]
        refused = await kafka.create_missing(self._settings, wanted)
        self._existing_topics |= topics - refused.keys()
        if refused:
            failed = [reply for reply in replies if reply.topic in refused]
            reason = "Kafka does not create the topic: {}"
            raise UndeliverableError(
                {reply: reason.format(refused[reply.topic]) for reply in failed}
            )

    async def _sleep(self, seconds: float) -> None:
        """Wait `seconds`, or until something is in the outbox, or until `stop`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)


async def _send(producer: AIOKafkaProducer, replies: Sequence[Reply]) -> dict[Reply, str]:
    """Send `replies`. Returns those that Kafka does not accept, with the reason."""
    outcomes = await asyncio.gather(
        *(_send_one(producer, reply) for reply in replies), return_exceptions=True
    )
    failures = {}
    for reply, outcome in zip(replies, outcomes, strict=True):
        if isinstance(outcome, UNDELIVERABLE):
            failures[reply] = repr(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
    return failures


async def _send_one(producer: AIOKafkaProducer, reply: Reply) -> None:
    await producer.send_and_wait(
        reply.topic, reply.value, key=str(reply.job_id).encode(), headers=reply.headers
    )
