"""Statements about open jobs that may need the ledger's help. All return few rows at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition

from gateway.ledger.own_events import SUBJECT_COLUMNS

PAGE = 1000
FIRST = UUID(int=0)
"""Before the first job, in the order of ids."""

_TO_CANCEL = f"""
SELECT {SUBJECT_COLUMNS}, arrived_at, cancel_requested_at FROM jobs
WHERE status = 'queued' AND cancel_requested_at IS NOT NULL AND arrived_at IS NOT NULL
    AND job_id > $1
ORDER BY job_id LIMIT {PAGE}
"""
_STILL_TO_CANCEL = f"""
SELECT {SUBJECT_COLUMNS}, arrived_at, cancel_requested_at FROM jobs
WHERE job_id = ANY($1) AND status = 'queued'
"""
_WITHOUT_RECORD = f"""
SELECT {SUBJECT_COLUMNS} FROM jobs
WHERE finished_at IS NULL AND status = 'queued' AND arrived_at IS NOT NULL
    AND source_topic = $1 AND source_partition = $2
    AND (source_offset < $3 OR source_offset >= $4) AND job_id > $5
ORDER BY job_id LIMIT {PAGE}
"""
_PARTITIONS_FROM = """
SELECT DISTINCT source_partition FROM jobs
WHERE finished_at IS NULL AND source_topic = $1 AND source_partition >= $2
"""
# Rows that a transaction of the ledger has locked are about to change.
_ABANDON = f"""
UPDATE jobs SET abandoned_at = now() WHERE job_id IN (
    SELECT job_id FROM jobs
    WHERE finished_at IS NULL AND abandoned_at IS NULL AND source_topic = $1
        AND source_partition = $2 AND source_offset < $3
    LIMIT {PAGE} FOR UPDATE SKIP LOCKED
)
"""
# A turn that is further away than the next one could be: Postgres' clock was set back.
_TAKE_TURN = """
INSERT INTO periodic_tasks AS old (task, next_run_at) VALUES ($1, now() + $2)
ON CONFLICT (task) DO UPDATE SET next_run_at = excluded.next_run_at
WHERE old.next_run_at <= now() OR old.next_run_at > now() + $2
RETURNING true
"""


@dataclass(frozen=True, slots=True)
class LogRange:
    """The offsets that a partition has: from `beginning` up to, not including, `end`."""

    beginning: int
    end: int

    def __contains__(self, offset: int) -> bool:
        return self.beginning <= offset < self.end


async def to_cancel(connection: asyncpg.Connection, after: UUID) -> list[asyncpg.Record]:
    """A page of queued jobs that somebody asked to cancel."""
    found: list[asyncpg.Record] = await connection.fetch(_TO_CANCEL, after)
    return found


async def still_to_cancel(
    connection: asyncpg.Connection, job_ids: Sequence[UUID]
) -> list[asyncpg.Record]:
    """Those of the jobs that are still queued."""
    found: list[asyncpg.Record] = await connection.fetch(_STILL_TO_CANCEL, job_ids)
    return found


async def without_record(
    connection: asyncpg.Connection, partition: TopicPartition, has: LogRange, after: UUID
) -> list[asyncpg.Record]:
    """A page of queued jobs whose records are not among those that their partition has."""
    found: list[asyncpg.Record] = await connection.fetch(
        _WITHOUT_RECORD, *partition, has.beginning, has.end, after
    )
    return found


async def partitions_from(
    connection: asyncpg.Connection, topic: str, number: int
) -> set[TopicPartition]:
    """The partitions with this number, or a higher one, that open jobs are in."""
    rows = await connection.fetch(_PARTITIONS_FROM, topic, number)
    return {TopicPartition(topic, row["source_partition"]) for row in rows}


async def abandon(
    connection: asyncpg.Connection, partition: TopicPartition, finished_until: int
) -> int:
    """Mark open jobs with an offset below `finished_until`. Returns how many it marked."""
    done = await connection.execute(_ABANDON, *partition, finished_until)
    return int(done.removeprefix("UPDATE "))


async def take_turn(connection: asyncpg.Connection, task: str, interval: timedelta) -> bool:
    """Whether `task` is this gateway's to run now: one of all gateways in every `interval`."""
    return bool(await connection.fetchval(_TAKE_TURN, task, interval))
