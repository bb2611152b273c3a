"""What Kafka knows of replies that were sent, read into Postgres."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from gateway.replies.session import Session
from gateway.settings import GatewaySettings
from niyama import kafka

log = logging.getLogger(__name__)

POLL_RECORDS = 10_000
POLL_TIMEOUT_MS = 500
STALL_TIMEOUT_S = 45.0
"""Longer than a transaction that nobody ends can hold up the topic."""

_POSITION = """
SELECT coalesce(max(next_offset), 0) FROM ledger_offsets WHERE topic = $1 AND partition = 0
"""
# A reply of this database is not needed any more. A job whose end is not in the database yet, as
# after a restoration, is remembered: its reply will come up when its end is read again.
_NOTE = """
WITH sent AS (
    SELECT DISTINCT job_id FROM unnest($1::uuid[]) AS given (job_id)
), gone AS (
    DELETE FROM reply_outbox USING sent WHERE reply_outbox.job_id = sent.job_id
    RETURNING reply_outbox.job_id
), remembered AS (
    INSERT INTO replies_sent (job_id)
    SELECT job_id FROM sent
    WHERE NOT EXISTS (SELECT FROM gone WHERE gone.job_id = sent.job_id) AND NOT EXISTS (
        SELECT FROM jobs WHERE jobs.job_id = sent.job_id AND finished_at IS NOT NULL
    )
    ON CONFLICT DO NOTHING
)
INSERT INTO ledger_offsets (topic, partition, next_offset) VALUES ($2, 0, $3)
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""
# By then Kafka has forgotten the events that these jobs would have ended with.
_FORGET = "DELETE FROM replies_sent WHERE noted_at < now() - interval '30 days'"


class SentLog:
    """Reads the topic `replies-sent`, up to its end, whenever it is asked to.

    How far it has read is in Postgres beside what it has read, so a database that was restored or
    emptied is read into from where it stands. Use it as an async context manager; raises KafkaError
    and what asyncpg raises.
    """

    def __init__(self, settings: GatewaySettings, session: Session) -> None:
        self._session = session
        self._partition = TopicPartition(settings.topics.replies_sent.name, 0)
        self._reader: AIOKafkaConsumer = kafka.consumer(settings)
        # Knows where the topic ends with what is not committed yet.
        self._ends: AIOKafkaConsumer = kafka.consumer(settings, isolation_level="read_uncommitted")
        self._turn = asyncio.Lock()
        self._position = 0
        self._recent: set[UUID] = set()

    @property
    def noted(self) -> tuple[str, int]:
        """The topic and its offset up to where Postgres knows what was sent."""
        return self._partition.topic, self._position

    async def __aenter__(self) -> Self:
        try:
            await self._ends.start()
            await self._reader.start()
        except BaseException:
            await self._stop()
            raise
        self._reader.assign([self._partition])
        self._position = await self._stored_position()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def is_current(self) -> bool:
        """Whether Postgres still stands where the last `catch_up` left it."""
        return await self._stored_position() == self._position

    def remember(self, job_ids: Iterable[UUID]) -> None:
        """These replies were sent, a moment ago: Postgres has no note of them yet."""
        self._recent.update(job_ids)

    def remembers_any(self, job_ids: Iterable[UUID]) -> bool:
        """Whether some of these were sent after the last `catch_up` began."""
        return not self._recent.isdisjoint(job_ids)

    async def catch_up(self) -> None:
        """Note everything that was sent by transactions that have ended by now."""
        async with self._turn:
            recent = frozenset(self._recent)
            end = (await self._ends.end_offsets([self._partition]))[self._partition]
            position = await self._stored_position()
            if position > end:
                log.warning("%s is shorter than it was; reading all of it", self._partition.topic)
                position = 0
                await self._note([], position)
            self._reader.seek(self._partition, position)
            while position < end:
                position = await self._read(position)
            # Only now: until then, Postgres has rows of replies that were sent.
            self._position = position
            self._recent -= recent

    async def forget(self) -> None:
        """Forget what no event that Kafka still has can ask for."""
        await self._session.execute(_FORGET)

    async def _read(self, since: int) -> int:
        """Note some of the records from the offset `since` on. Returns up to where."""
        keys: list[bytes | None] = []
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                while (position := await self._reader.position(self._partition)) <= since:
                    polled = await self._reader.getmany(
                        timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_RECORDS
                    )
                    keys = [record.key for record in polled.get(self._partition, ())]
        except TimeoutError as error:
            raise KafkaTimeoutError(f"no progress in reading {self._partition.topic}") from error
        await self._note(_job_ids(keys), int(position))
        return int(position)

    async def _note(self, job_ids: Sequence[UUID], position: int) -> None:
        await self._session.execute(_NOTE, job_ids, self._partition.topic, position)

    async def _stored_position(self) -> int:
        [row] = await self._session.fetch(_POSITION, self._partition.topic)
        return int(row[0])

    async def _stop(self) -> None:
        await asyncio.gather(self._reader.stop(), self._ends.stop())


def _job_ids(keys: Sequence[bytes | None]) -> list[UUID]:
    """The ids among the keys of records. Whatever else somebody wrote there is skipped."""
    found = []
    for key in keys:
        try:
            found.append(UUID((key or b"").decode()))
        except ValueError:
            log.warning("skipped a record of replies-sent whose key is not a job id: %.50r", key)
    return found
