"""The outbox: terminal events in Postgres that wait for their reply topics.

The ledger's writer adds them, in the transaction that ends their jobs; the relay publishes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from gateway.database import AdvisoryLock
from gateway.ledger.records import Report
from gateway.ledger.rows import columns
from schemas.headers import Headers

_ADD = """
INSERT INTO reply_outbox (job_id, reply_topic, value, headers)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::jsonb[]) ON CONFLICT DO NOTHING
"""
_ADDRESS = """
UPDATE reply_outbox AS held SET reply_topic = job.reply_topic
FROM unnest($1::uuid[], $2::text[]) AS job (job_id, reply_topic)
WHERE held.job_id = job.job_id AND held.reply_topic IS NULL AND job.reply_topic IS NOT NULL
"""
_DROP_HELD = "DELETE FROM reply_outbox WHERE job_id = ANY($1) AND reply_topic IS NULL"
_TAKE_LOCK = "SELECT pg_try_advisory_lock($1)"
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
    """A row of the outbox that has a topic."""

    job_id: UUID
    topic: str
    value: bytes
    headers: Headers


async def add(connection: asyncpg.Connection, endings: Sequence[tuple[Report, str | None]]) -> int:
    """Add terminal events with their reply topics. Returns how many can be sent now.

    One without a topic is held until `address_held`, because its job's record is not known yet.
    """
    if not endings:
        return 0
    rows = [
        (report.event.job_id, topic, report.value, _encode_headers(report.trace))
        for report, topic in endings
    ]
    await connection.execute(_ADD, *columns(rows))
    return sum(topic is not None for _, topic in endings)


async def address_held(
    connection: asyncpg.Connection, jobs: Sequence[tuple[UUID, str | None]]
) -> int:
    """The records of these jobs are known now: send their held replies, or drop those unwanted.

    `jobs` are ids with reply topics, if any. Returns how many replies can be sent now.
    """
    if not jobs:
        return 0
    addressed = await connection.execute(_ADDRESS, *columns(jobs))
    await connection.execute(_DROP_HELD, [job_id for job_id, _ in jobs])
    return int(addressed.removeprefix("UPDATE "))


async def take_lock(connection: asyncpg.Connection) -> bool:
    """Whether `connection` holds the relay's lock now. It does until it is closed."""
    return bool(await connection.fetchval(_TAKE_LOCK, AdvisoryLock.REPLIES.value))


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
    headers = _decode_headers(row["headers"])
    return Reply(row["job_id"], row["reply_topic"], row["value"], headers)


def _encode_headers(headers: Headers) -> str:
    # Latin-1 has a character for every byte.
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers])


def _decode_headers(encoded: str) -> Headers:
    return [(name, value.encode("latin-1")) for name, value in json.loads(encoded)]
