"""What the API asks the ledger."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.tables import OPEN_STATUSES, job_events, job_results, jobs

# Clocks of workers and producers differ; still, only a few daily partitions are searched.
CLOCK_SKEW = timedelta(days=1)

JobRow = Row[tuple[Any, ...]]


class BadCursorError(ValueError):
    """A cursor that no page of this list ended with."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the next one begins after this job."""

    arrived_at: datetime
    job_id: UUID

    def encode(self) -> str:
        text = f"{self.arrived_at.isoformat()} {self.job_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Raises BadCursorError."""
        try:
            padded = text + "=" * (-len(text) % 4)
            arrived_at, job_id = base64.urlsafe_b64decode(padded).decode().split(" ")
            cursor = cls(datetime.fromisoformat(arrived_at), UUID(job_id))
            if cursor.arrived_at.tzinfo is None:
                raise ValueError(arrived_at)
            return cursor
        except (ValueError, binascii.Error) as error:
            raise BadCursorError(text) from error


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list. None and empty mean any."""

    statuses: Sequence[str] = ()
    qos_class: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that the ledger has of one job."""

    job: JobRow
    """Its result's columns too; ``text`` is null while there is none."""
    events: Sequence[Row[tuple[Any, ...]]]


class Ledger:
    """Reads the ledger. Every method raises one of ``database.UNREACHABLE`` without Postgres."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def job(self, job_id: UUID) -> JobRecord | None:
        """The job with its result and history, or None when the ledger has not heard of it."""
        found = await self._rows(with_result(job_id))
        if not found:
            return None
        job = found[0]
        return JobRecord(job, await self._rows(history_of(job_id, job.arrived_at)))

    async def row(self, job_id: UUID) -> JobRow | None:
        """The job's row alone."""
        return next(iter(await self._rows(select(jobs).where(jobs.c.job_id == job_id))), None)

    async def list(self, wanted: JobFilter, limit: int, after: Cursor | None) -> Sequence[JobRow]:
        """At most ``limit`` jobs, the last published first."""
        return await self._rows(listing(wanted, limit, after))

    async def _rows(self, query: Select[tuple[Any, ...]]) -> Sequence[JobRow]:
        try:
            return await self._rows_once(query)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # Postgres was restarted since: every pooled connection is dead, a new one is not.
            return await self._rows_once(query)

    async def _rows_once(self, query: Select[tuple[Any, ...]]) -> Sequence[JobRow]:
        async with self._database.connect() as connection:
            rows: Sequence[JobRow] = (await connection.execute(query)).all()
            return rows


def with_result(job_id: UUID) -> Select[tuple[Any, ...]]:
    """The job's row, and its result's columns, all null as long as there is none."""
    result = [column for column in job_results.c if column.name != "job_id"]
    return (
        select(jobs, *result)
        .outerjoin_from(jobs, job_results, jobs.c.job_id == job_results.c.job_id)
        .where(jobs.c.job_id == job_id)
    )


def listing(wanted: JobFilter, limit: int, after: Cursor | None) -> Select[tuple[Any, ...]]:
    """Jobs whose own record is known, by (arrived_at, job_id), downwards."""
    query = select(jobs).where(jobs.c.arrived_at.is_not(None))
    if wanted.statuses:
        query = query.where(jobs.c.status.in_(wanted.statuses))
        if "completed" not in wanted.statuses:
            query = query.where(jobs.c.status != "completed")  # what the index is made for
        if set(wanted.statuses) <= set(OPEN_STATUSES):
            query = query.where(jobs.c.finished_at.is_(None))
    if wanted.qos_class is not None:
        query = query.where(jobs.c.qos_class == wanted.qos_class)
    if wanted.tenant is not None:
        query = query.where(jobs.c.tenant == wanted.tenant)
    if after is not None:
        position = tuple_(jobs.c.arrived_at, jobs.c.job_id)
        query = query.where(position < (after.arrived_at, after.job_id))
    return query.order_by(jobs.c.arrived_at.desc(), jobs.c.job_id.desc()).limit(limit)


def history_of(job_id: UUID, arrived_at: datetime | None) -> Select[tuple[Any, ...]]:
    """The job's events in the order in which they happened."""
    query = select(job_events).where(job_events.c.job_id == job_id)
    if arrived_at is not None:
        query = query.where(job_events.c.at >= arrived_at - CLOCK_SKEW)
    return query.order_by(job_events.c.at, job_events.c.event_id)
