"""The outbox: terminal events in Postgres that wait for their reply topics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import asyncpg

_TAKE_LOCK = "SELECT pg_try_advisory_lock(1852402019)"  # any number that nothing else locks
_DELETE_PUBLISHED = "DELETE FROM reply_outbox WHERE batch <= $1"
_CLEAR_NUMBERS = "UPDATE reply_outbox SET batch = NULL WHERE batch IS NOT NULL"
# Up to 4 MiB, or one row. A reply that failed before goes alone, so that it delays no other.
_NUMBER_DUE = """
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
_POSTPONE = """
UPDATE reply_outbox SET attempts = attempts + 1, error = failure.error, batch = NULL,
    next_try_at = now() + least(2 ^ least(attempts + 1, 10), 300) * interval '1 second'
FROM unnest($1::uuid[], $2::text[]) AS failure (job_id, error)
WHERE reply_outbox.job_id = failure.job_id
"""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A row of the outbox."""

    job_id: UUID
    topic: str
    value: bytes
    headers: list[tuple[str, bytes]]


async def take_lock(connection: asyncpg.Connection) -> bool:
    """Whether `connection` holds the relay's lock now. It does until it is closed."""
    return bool(await connection.fetchval(_TAKE_LOCK))


async def number_due(connection: asyncpg.Connection, number: int) -> list[Reply]:
    """Make a batch `number` of some replies that are due; empty when none is."""
    return [_reply(row) for row in await connection.fetch(_NUMBER_DUE, number)]


async def delete_published(connection: asyncpg.Connection, number: int) -> None:
    """Delete the batches up to `number`."""
    await connection.execute(_DELETE_PUBLISHED, number)


async def clear_numbers(connection: asyncpg.Connection) -> None:
    """Dissolve the batches that are left: their replies are due again."""
    await connection.execute(_CLEAR_NUMBERS)


async def postpone(connection: asyncpg.Connection, failures: Mapping[Reply, str]) -> None:
    """Record why these replies could not be published, and when to try them again."""
    job_ids = [reply.job_id for reply in failures]
    await connection.execute(_POSTPONE, job_ids, list(failures.values()))


def _reply(row: asyncpg.Record) -> Reply:
    headers = [(name, value.encode("latin-1")) for name, value in json.loads(row["headers"])]
    return Reply(row["job_id"], row["reply_topic"], row["value"], headers)
