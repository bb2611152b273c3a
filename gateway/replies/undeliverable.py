"""What an operator does about undeliverable replies: retry or drop them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

_CHUNK_ROWS = 10_000
# Only what was given up before the command began: the relay may give up again what is retried.
_CHOSEN = """
SELECT job_id FROM reply_outbox
WHERE undeliverable_at <= $3 AND ($1::text IS NULL OR reply_topic = $1)
    AND (cardinality($2::uuid[]) = 0 OR job_id = ANY($2))
LIMIT $4
"""
_RETRY = f"""
WITH again AS (
    UPDATE reply_outbox SET undeliverable_at = NULL, failing_since = NULL, error = NULL,
        attempts = 0, next_try_at = now(), written_at = now()
    WHERE job_id IN ({_CHOSEN})
    RETURNING reply_topic
), topics AS (
    DELETE FROM failing_reply_topics
    WHERE topic = $1 OR topic IN (SELECT reply_topic FROM again)
)
SELECT count(*) FROM again
"""
_DROP = f"""
WITH dropped AS (
    DELETE FROM reply_outbox WHERE job_id IN ({_CHOSEN}) RETURNING job_id
), noted AS (
    UPDATE jobs SET reply_dropped_at = now() WHERE job_id IN (SELECT job_id FROM dropped)
)
SELECT count(*) FROM dropped
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Undeliverable replies: all, those to `topic`, those of some jobs, or what is both."""

    topic: str | None = None
    job_ids: Sequence[UUID] = ()


async def retry(connection: asyncpg.Connection, chosen: Selection) -> int:
    """Try these again. Returns how many.

    Topics that they go to, and the chosen one, are tried immediately.
    """
    return await _in_chunks(connection, _RETRY, chosen)


async def drop(connection: asyncpg.Connection, chosen: Selection) -> int:
    """Delete these for good; the jobs remember it. Returns how many."""
    return await _in_chunks(connection, _DROP, chosen)


async def _in_chunks(connection: asyncpg.Connection, statement: str, chosen: Selection) -> int:
    newest = await connection.fetchval("SELECT max(undeliverable_at) FROM reply_outbox")
    total, count = 0, _CHUNK_ROWS
    while count == _CHUNK_ROWS:
        count = await connection.fetchval(
            statement, chosen.topic, chosen.job_ids, newest, _CHUNK_ROWS
        )
        total += count
    return total
