"""Writes one poll's records to Postgres: one transaction, a few statements."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

import asyncpg

from gateway.ledger import reply_outbox
from gateway.ledger.job import Attempt
from gateway.ledger.merge import INSERT_EVENTS, INSERT_RESULTS, UPSERT_JOBS
from gateway.ledger.projection import Patches
from gateway.ledger.records import LEDGER, Cancellation, Entry, Report, Submission
from gateway.ledger.rows import columns, event_row, job_row, result_row
from schemas import EventType, JobEvent, JobStatus

ADVANCE_OFFSETS = """
UPDATE ledger_offsets AS old SET next_offset = step.until
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
     AS step (topic, partition, since, until)
WHERE old.topic = step.topic AND old.partition = step.partition AND old.next_offset = step.since
"""


@dataclass(frozen=True, slots=True)
class OffsetStep:
    """Progress in one partition: from the offset that Postgres has to the next one to read."""

    topic: str
    partition: int
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did."""

    finished_jobs: int
    replies: int
    """Outbox rows that can be sent now."""


class StaleOffsetsError(Exception):
    """Another gateway wrote these partitions: the poll was not ours to write."""


async def write(
    connection: asyncpg.Connection, entries: Sequence[Entry], steps: Sequence[OffsetStep]
) -> Written:
    """Write `entries` and `steps`, all or nothing.

    Raises StaleOffsetsError when another gateway wrote these partitions meanwhile, and what
    asyncpg raises.
    """
    async with connection.transaction():
        await _advance(connection, steps)
        reports = [entry for entry in entries if isinstance(entry, Report)]
        new = await _insert_events(connection, reports)
        patches = _patches(entries, new)
        written, to_cancel = await _write_jobs(connection, patches, new)
        if not to_cancel:
            return written
        cancelled = await _cancel_queued(connection, to_cancel)
    return Written(
        finished_jobs=written.finished_jobs + cancelled.finished_jobs,
        replies=written.replies + cancelled.replies,
    )


def cancelled_by_ledger(job_id: UUID, at: datetime) -> JobEvent:
    """The terminal event of a job that was cancelled before any worker took it."""
    return JobEvent(
        event_id=uuid5(job_id, "cancelled while queued"),
        job_id=job_id,
        type=EventType.CANCELLED,
        at=at,
        attempt=1,
        worker_id=LEDGER,
        pool=LEDGER,
        reason="cancelled before a worker took it",
    )


def _patches(entries: Sequence[Entry], new: Sequence[Report]) -> Patches:
    patches = Patches()
    for entry in entries:
        if isinstance(entry, Submission):
            patches.of(entry.job_id).submit(entry.request)
        elif isinstance(entry, Cancellation):
            patches.of(entry.job_id).cancel(entry.requested_at)
    patches.report(report.event for report in new)
    return patches


async def _advance(connection: asyncpg.Connection, steps: Sequence[OffsetStep]) -> None:
    # First, so that of two gateways that both believe they own a partition, one waits here,
    # then finds the offset moved, and gives up.
    arrays = columns((step.topic, step.partition, step.since, step.until) for step in steps)
    if await connection.execute(ADVANCE_OFFSETS, *arrays) != f"UPDATE {len(steps)}":
        raise StaleOffsetsError


async def _insert_events(connection: asyncpg.Connection, reports: Sequence[Report]) -> list[Report]:
    """Append to the history. Returns the reports that were not in it, in their order."""
    if not reports:
        return []
    rows = (event_row(report.event) for report in reports)
    inserted = await connection.fetch(INSERT_EVENTS, *columns(rows))
    new = {row[0] for row in inserted}
    fresh = []
    for report in reports:
        if report.event.event_id in new:
            new.remove(report.event.event_id)  # it may be in this poll twice
            fresh.append(report)
    return fresh


async def _write_jobs(
    connection: asyncpg.Connection, patches: Patches, reports: Sequence[Report]
) -> tuple[Written, list[asyncpg.Record]]:
    """Merge `patches` into the jobs. Returns also the jobs that are now to be cancelled."""
    ordered = patches.ordered()
    if not ordered:
        return Written(0, 0), []
    jobs = await connection.fetch(UPSERT_JOBS, *columns(map(job_row, ordered)))
    by_id = {job["job_id"]: job for job in jobs}
    # The events are new: a job that has one of them as its end got it in this transaction.
    endings = [
        Ending(report, job)
        for report in reports
        if report.event.type.is_terminal
        and (job := by_id[report.event.job_id])["terminal_event_id"] == report.event.event_id
    ]
    await _insert_results(connection, endings)
    replies = await reply_outbox.add(connection, _replies(endings))
    submitted = {patch.job_id for patch in ordered if patch.request is not None}
    just_ended = {ending.job["job_id"] for ending in endings}
    ended_before = [
        (job["job_id"], job["reply_topic"])
        for job in jobs
        if job["terminal_event_id"] and job["job_id"] in submitted - just_ended
    ]
    replies += await reply_outbox.address_held(connection, ended_before)
    return Written(len(endings), replies), [job for job in jobs if _is_to_cancel(job)]


@dataclass(frozen=True, slots=True)
class Ending:
    """The event that ended a job, and what the ledger then knows of the job."""

    report: Report
    job: asyncpg.Record


def _is_to_cancel(job: asyncpg.Record) -> bool:
    known_and_asked = job["arrived_at"] is not None and job["cancel_requested_at"] is not None
    return known_and_asked and job["status"] == JobStatus.QUEUED


async def _cancel_queued(connection: asyncpg.Connection, jobs: Sequence[asyncpg.Record]) -> Written:
    """End jobs that no worker has taken. A worker that receives one later drops it too."""
    events = [cancelled_by_ledger(job["job_id"], job["cancel_requested_at"]) for job in jobs]
    new = await _insert_events(
        connection, [Report(event, event.to_bytes(), []) for event in events]
    )
    patches = Patches()
    patches.report(report.event for report in new)
    for patch in patches.ordered():
        # No worker made an attempt; and a worker's own event will not count as a duplicate.
        patch.attempt = Attempt()
        patch.incidents.terminal_events = 0
    written, _ = await _write_jobs(connection, patches, new)
    return written


async def _insert_results(connection: asyncpg.Connection, endings: Sequence[Ending]) -> None:
    events = [ending.report.event for ending in endings]
    rows = [result_row(event) for event in events if event.result is not None]
    if rows:
        await connection.execute(INSERT_RESULTS, *columns(rows))


def _replies(endings: Sequence[Ending]) -> list[tuple[Report, str | None]]:
    """The endings that somebody wants, or may want once the job's record is known."""
    return [
        (ending.report, ending.job["reply_topic"])
        for ending in endings
        if ending.job["reply_topic"] is not None or ending.job["arrived_at"] is None
    ]
