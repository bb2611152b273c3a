"""Events that the ledger itself writes to the log, about jobs that no worker will report on.

They go where a worker's events of the same job go, and end the job when they are read back. So the
log says how every job ended, in one order, and a ledger that is rebuilt comes to the same result.
"""

from datetime import datetime
from uuid import uuid5

import asyncpg

from schemas import EventType, JobError, JobEvent
from schemas.event import LEDGER, Source

SUBJECT_COLUMNS = "job_id, pool, source_topic, source_partition, source_offset"
"""What an event needs of a row of `jobs` whose own record is known."""


def cancelled_while_queued(job: asyncpg.Record) -> JobEvent:
    """The end of a job that was cancelled before any worker took it.

    It has the same id and time however often it is made.
    """
    reason = "cancelled before a worker took it"
    at = max(job["cancel_requested_at"], job["arrived_at"])  # the request may have come first
    return _event(job, EventType.CANCELLED, at, reason=reason)


def record_deleted(job: asyncpg.Record, at: datetime, how: str) -> JobEvent:
    """The end of a queued job that nobody can run: its record is not in Kafka any more."""
    message = f"no worker ran the job before its record ({_source(job)}) was lost: {how}"
    return _event(job, EventType.FAILED, at, error=JobError(code="record_deleted", message=message))


def _event(
    job: asyncpg.Record,
    kind: EventType,
    at: datetime,
    *,
    reason: str | None = None,
    error: JobError | None = None,
) -> JobEvent:
    return JobEvent(
        event_id=uuid5(job["job_id"], f"{kind} by the ledger"),
        job_id=job["job_id"],
        type=kind,
        at=at,
        attempt=1,
        worker_id=LEDGER,
        pool=job["pool"],
        source=_source(job),
        reason=reason,
        error=error,
    )


def _source(job: asyncpg.Record) -> Source:
    return Source(
        topic=job["source_topic"],
        partition=job["source_partition"],
        offset=job["source_offset"],
    )
