"""What the API asks the ledger."""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.database import read
from gateway.ledger.job import Job
from gateway.ledger.reply_state import REPLY_COLUMNS, ReplyStatus, status_of
from gateway.ledger.rows import job_of
from gateway.ledger.tables import (
    failing_reply_topics,
    gateway_secrets,
    job_events,
    job_results,
    jobs,
    reply_outbox,
)
from schemas import JobStatus

IDEMPOTENCY = "idempotency"
"""The name of the secret."""
CLOCK_SKEW = timedelta(days=1)
"""Clocks of workers and producers differ; still, only a few daily partitions are searched."""

# As text, because SQLAlchemy would handle each of thousands of ids by itself.
NOT_OPEN = text("""
SELECT wanted.job_id, jobs.job_id IS NOT NULL AS known
FROM unnest(CAST(:job_ids AS uuid[])) AS wanted (job_id) LEFT JOIN jobs USING (job_id)
WHERE jobs.job_id IS NULL OR jobs.finished_at IS NOT NULL
""")


class BadCursorError(ValueError):
    """A cursor that no page of this list ended with."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the next one starts after this job."""

    arrived_at: datetime
    job_id: UUID

    @classmethod
    def after(cls, job: Job) -> Self:
        """Where a page ends whose last job is `job`, a job whose own record is known."""
        assert job.request is not None
        return cls(job.request.arrived_at, job.job_id)

    def encode(self) -> str:
        text = f"{self.arrived_at.isoformat()} {self.job_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises BadCursorError."""
        try:
            padded = text + "=" * (-len(text) % 4)
            arrived_at, job_id = base64.urlsafe_b64decode(padded).decode().split(" ")
            cursor = cls(datetime.fromisoformat(arrived_at), UUID(job_id))
            if cursor.arrived_at.tzinfo is None:
                raise ValueError(arrived_at)
            cursor.arrived_at.astimezone(UTC)  # as Postgres gets it
            return cursor
        except (ValueError, OverflowError) as error:
            raise BadCursorError(text) from error


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list. None and empty mean any."""

    statuses: Sequence[JobStatus] = ()
    qos_class: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a completed job generated."""

    text: str
    token_ids: list[int] | None
    finish_reason: str | None
    logprobs: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event of a job: a row of `job_events`."""

    type: str
    at: datetime
    attempt: int
    worker_id: str
    reason: str | None
    prediction: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that the ledger has of one job."""

    job: Job
    result: Result | None = None
    history: Sequence[HistoryEntry] = ()
    reply: ReplyStatus | None = None


_RESULT = [column for column in job_results.c if column.name != "job_id"]
_JOB_ID = bindparam("job_id", type_=jobs.c.job_id.type)

# These are what clients ask most. Made once: to make and to compare a statement costs SQLAlchemy
# more than to execute it.
WITH_RESULT = (
    select(jobs, *_RESULT, *REPLY_COLUMNS)
    .outerjoin_from(jobs, job_results, jobs.c.job_id == job_results.c.job_id)
    .outerjoin(reply_outbox, jobs.c.job_id == reply_outbox.c.job_id)
    .outerjoin(failing_reply_topics, failing_reply_topics.c.topic == reply_outbox.c.reply_topic)
    .where(jobs.c.job_id == _JOB_ID)
)
"""The job's columns, and those of its result and reply, which are null while there is none."""
HISTORY = (
    select(*(job_events.c[part.name] for part in fields(HistoryEntry)))
    .where(job_events.c.job_id == _JOB_ID)
    .where(job_events.c.at >= bindparam("since", type_=job_events.c.at.type))
    .order_by(job_events.c.at, job_events.c.event_id)
)
"""The job's events in the order in which they happened: the columns of a HistoryEntry."""
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Ledger:
    """Reads the ledger. Every method raises one of `database.UNREACHABLE` without Postgres."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def record(self, job_id: UUID) -> JobRecord | None:
        """The job with its result and history, or None when the ledger has not heard of it."""
        found = await read(self._database, WITH_RESULT, {"job_id": job_id})
        if not found:
            return None
        row, job = found[0], job_of(found[0])
        since = job.request.arrived_at - CLOCK_SKEW if job.request else BEFORE_ALL
        history = await read(self._database, HISTORY, {"job_id": job_id, "since": since})
        entries = [HistoryEntry(*entry) for entry in history]
        return JobRecord(job, _result_of(row), entries, status_of(job, row))

    async def job(self, job_id: UUID) -> Job | None:
        """The job alone, or None when the ledger has not heard of it."""
        found = await read(self._database, select(jobs).where(jobs.c.job_id == job_id))
        return job_of(found[0]) if found else None

    async def not_open(self, job_ids: Collection[UUID]) -> dict[UUID, bool]:
        """Those of the jobs that have ended (True), or that the ledger has not heard of (False)."""
        rows = await read(self._database, NOT_OPEN.bindparams(job_ids=[*job_ids]))
        return {row.job_id: row.known for row in rows}

    async def list(self, wanted: JobFilter, limit: int, after: Cursor | None) -> Sequence[Job]:
        """At most `limit` jobs, the last published first."""
        return [job_of(row) for row in await read(self._database, listing(wanted, limit, after))]

    async def idempotency_secret(self) -> bytes:
        """The secret that all gateways of this ledger share, made when there is none yet."""
        secrets = gateway_secrets.c
        stored = select(secrets.value).where(secrets.name == IDEMPOTENCY)
        if found := await read(self._database, stored):
            return bytes(found[0].value)
        made = insert(gateway_secrets).values(name=IDEMPOTENCY, value=token_bytes(32))
        # Of several gateways one writes its own, and the others get that one.
        kept = made.on_conflict_do_update(index_elements=["name"], set_={"name": IDEMPOTENCY})
        ((value,),) = await read(self._database, kept.returning(secrets.value))
        return bytes(value)


def _result_of(row: Row[*tuple[Any, ...]]) -> Result | None:
    if row.text is None:
        return None
    return Result(row.text, row.token_ids, row.finish_reason, row.logprobs)


def listing(wanted: JobFilter, limit: int, after: Cursor | None) -> Select[Any]:
    """Jobs whose own record is known, by (arrived_at, job_id), in descending order."""
    query = select(jobs).where(jobs.c.arrived_at.is_not(None))
    if wanted.statuses:
        query = query.where(jobs.c.status.in_(wanted.statuses))
        if JobStatus.COMPLETED not in wanted.statuses:
            # The condition of the index `jobs_by_status`.
            query = query.where(jobs.c.status != JobStatus.COMPLETED)
        if all(status.is_open for status in wanted.statuses):
            query = query.where(jobs.c.finished_at.is_(None))
    if wanted.qos_class is not None:
        query = query.where(jobs.c.qos_class == wanted.qos_class)
    if wanted.tenant is not None:
        query = query.where(jobs.c.tenant == wanted.tenant)
    if after is not None:
        position = tuple_(jobs.c.arrived_at, jobs.c.job_id)
        query = query.where(position < (after.arrived_at, after.job_id))
    return query.order_by(jobs.c.arrived_at.desc(), jobs.c.job_id.desc()).limit(limit)
