"""Sends terminal events to the topics that jobs named, exactly once for read-committed readers.

One gateway at a time is the relay. It repeats three steps:

(a) Postgres: give some due rows of the outbox the next batch number;
(b) Kafka, in one transaction: publish them, and commit the batch number as the offset of a
    consumer group that nobody else uses;
(c) Postgres: delete the rows of that batch.

Wherever it dies, the group's offset says which batches were published. The next relay begins
by fencing the last one's transactions, deletes the rows of published batches, and takes the
numbers off all others.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata

from gateway.database import UNREACHABLE, connect
from gateway.notices import Notices
from gateway.replies.topics import create_missing
from gateway.settings import GatewaySettings
from niyama import kafka

log = logging.getLogger(__name__)

LOCK_INTERVAL_S = 1.0
POLL_INTERVAL_S = 0.25
RETRY_INTERVAL_S = 1.0
SEND_TIMEOUT_MS = 15_000

TAKE_LOCK = "SELECT pg_try_advisory_lock(1852402019)"  # any number that nothing else locks
DELETE_PUBLISHED = "DELETE FROM reply_outbox WHERE batch <= $1"
UNNUMBER = "UPDATE reply_outbox SET batch = NULL WHERE batch IS NOT NULL"
# Up to 4 MiB, or one row. A reply that failed before goes alone, so that it delays no other.
NUMBER_DUE = """
UPDATE reply_outbox SET batch = $1
WHERE job_id IN (
    SELECT job_id FROM (
        SELECT job_id, row_number() OVER due AS place, bool_or(attempts > 0) OVER due AS failed,
               sum(octet_length(value)) OVER due AS bytes
        FROM (
            SELECT job_id, next_try_at, attempts, value FROM reply_outbox
            WHERE reply_topic IS NOT NULL AND next_try_at <= now()
            ORDER BY next_try_at, job_id LIMIT 500
        ) AS first
        WINDOW due AS (ORDER BY next_try_at, job_id)
    ) AS candidate
    WHERE place = 1 OR (NOT failed AND bytes <= 4194304)
)
RETURNING job_id, reply_topic, value, headers
"""
# After 2, 4, 8 ... seconds, at most five minutes.
POSTPONE = """
UPDATE reply_outbox SET attempts = attempts + 1, error = failure.error, batch = NULL,
    next_try_at = now() + least(2 ^ least(attempts + 1, 10), 300) * interval '1 second'
FROM unnest($1::uuid[], $2::text[]) AS failure (job_id, error)
WHERE reply_outbox.job_id = failure.job_id
"""

UNDELIVERABLE = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
"""Errors of one reply, not of Kafka."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A row of the outbox."""

    job_id: UUID
    topic: str
    value: bytes
    headers: list[tuple[str, bytes]]


class UndeliverableError(Exception):
    """Some replies of a batch cannot be published: ``failures`` says which, and why."""

    def __init__(self, failures: Mapping[Reply, str]) -> None:
        super().__init__(f"{len(failures)} replies")
        self.failures = failures


class ReplyRelay:
    """Empties the outbox, whenever it is this gateway's turn."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._group = f"{settings.topic_prefix}-replies"
        self._progress = TopicPartition(settings.topics.events.name, 0)
        self._existing_topics: set[str] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._notices = Notices()

    def wake(self) -> None:
        """There is something in the outbox now."""
        self._wake.set()

    def stop(self) -> None:
        """End ``run`` after the batch that is under way."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Relay until ``stop``. Kafka and Postgres may come and go."""
        while not self._stopping:
            try:
                await self._take_turn()
            except (KafkaError, asyncpg.PostgresError, *UNREACHABLE) as error:
                self._notices.warn("replies wait in the outbox, because of %r", error)
                await self._sleep(RETRY_INTERVAL_S)

    async def _take_turn(self) -> None:
        # Every statement goes through the connection that has the lock: when it is lost, so
        # are both. Commits are durable here, unlike the ledger's: a number that a crash takes
        # off a published batch would publish it again.
        connection = await connect(self._settings, "replies")
        try:
            while not self._stopping:
                if await connection.fetchval(TAKE_LOCK):
                    return await self._relay(connection)
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
            await producer.start()  # from here on, an earlier relay cannot commit any more
            number = await self._published_batches()
            await connection.execute(DELETE_PUBLISHED, number)
            await connection.execute(UNNUMBER)
            while not self._stopping:
                if await self._send_batch(connection, producer, number + 1):
                    number += 1
        finally:
            await producer.stop()

    async def _published_batches(self) -> int:
        """The number of the last batch that was published."""
        admin = AIOKafkaAdminClient(**kafka.connection(self._settings))
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(
                self._group, partitions=[self._progress]
            )
        finally:
            await admin.close()
        last: int = offsets[self._progress].offset
        return max(0, last)  # -1: none was published yet

    async def _send_batch(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer, number: int
    ) -> bool:
        """Send what is due as batch ``number``. Returns whether the batch was published."""
        self._wake.clear()
        rows = await connection.fetch(NUMBER_DUE, number)
        if not rows:
            await self._sleep(POLL_INTERVAL_S)
            return False
        replies = [_reply(row) for row in rows]
        try:
            await self._ensure_topics({reply.topic for reply in replies}, replies)
            await self._publish(producer, replies, number)
        except UndeliverableError as error:
            await self._postpone(connection, error.failures)
            return False
        await connection.execute(DELETE_PUBLISHED, number)
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
        await connection.execute(
            POSTPONE, [reply.job_id for reply in failures], list(failures.values())
        )
        await connection.execute(UNNUMBER)

    async def _ensure_topics(self, topics: set[str], replies: Sequence[Reply]) -> None:
        """Create reply topics that are missing, with the broker's defaults."""
        if topics <= self._existing_topics:
            return
        errors = await create_missing(self._settings, sorted(topics))
        self._existing_topics |= topics - errors.keys()
        if errors:
            raise UndeliverableError(
                {reply: errors[reply.topic] for reply in replies if reply.topic in errors}
            )

    async def _sleep(self, seconds: float) -> None:
        """Until something is in the outbox, or it is time to stop, or ``seconds`` are over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)


def _reply(row: asyncpg.Record) -> Reply:
    headers = [(name, value.encode("latin-1")) for name, value in json.loads(row["headers"])]
    return Reply(row["job_id"], row["reply_topic"], row["value"], headers)


async def _send(producer: AIOKafkaProducer, replies: Sequence[Reply]) -> dict[Reply, str]:
    """Send ``replies``. Returns those that Kafka will not take, with the reason."""
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
