"""Rows that wait for a job's record. When Kafka cannot have it any more, they are deleted.

An end of a job whose record is not known is held, as somebody may want the reply; and a request to
cancel is remembered, as the job may come after it.
"""

import logging
from datetime import timedelta

import asyncpg

from gateway.database import connect
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

PAGE = 1000

_DELETE_REPLIES = f"""
DELETE FROM reply_outbox WHERE job_id IN (
    SELECT job_id FROM reply_outbox WHERE reply_topic IS NULL AND written_at < now() - $1::interval
    LIMIT {PAGE} FOR UPDATE SKIP LOCKED
)
"""
_DELETE_CANCELLATIONS = f"""
DELETE FROM jobs WHERE job_id IN (
    SELECT job_id FROM jobs
    WHERE status = 'queued' AND cancel_requested_at < now() - $1::interval
        AND arrived_at IS NULL AND source_topic IS NULL AND newest_attempt = 0
    LIMIT {PAGE} FOR UPDATE SKIP LOCKED
)
"""


async def delete_orphans(settings: GatewaySettings) -> None:
    """Delete what waited for longer than a record stays in Kafka. Raises one of UNREACHABLE."""
    # A topic's last segment may outlive its retention by as much again.
    waited = timedelta(seconds=2 * max(spec.retention_s for spec in settings.topics.jobs))
    connection = await connect(settings, "orphans")
    try:
        replies = await _delete(connection, _DELETE_REPLIES, waited)
        cancellations = await _delete(connection, _DELETE_CANCELLATIONS, waited)
    finally:
        await connection.close()
    if replies or cancellations:
        log.warning(
            "deleted %d replies and %d requests to cancel: the records of their jobs never arrived",
            *(replies, cancellations),
        )


async def _delete(connection: asyncpg.Connection, statement: str, waited: timedelta) -> int:
    """Returns how many rows it deleted."""
    deleted = 0
    while count := int((await connection.execute(statement, waited)).removeprefix("DELETE ")):
        deleted += count
    return deleted
