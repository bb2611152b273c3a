"""Writes one poll's records to Postgres: one transaction, a few statements."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from gateway.ledger import reply_outbox
from gateway.ledger.claims import Claim, Claims
from gateway.ledger.merge import INSERT_EVENTS, INSERT_RESULTS, TIMES_FROM_HISTORY, UPSERT_JOBS
from gateway.ledger.projection import JobPatch, Patches
from gateway.ledger.records import Cancellation, Entry, Report, Submission
from gateway.ledger.rows import columns, event_row, job_row, result_row
from schemas import JobStatus

MAX_TRIES = 10

_BEGIN = """
WITH advanced AS (
    UPDATE ledger_offsets AS old SET next_offset = step.until
    FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
         AS step (topic, partition, since, until)
    WHERE old.topic = step.topic AND old.partition = step.partition AND old.next_offset = step.since
    RETURNING 1
)
SELECT (SELECT count(*) FROM advanced) AS advanced, ARRAY(
    SELECT (
        SELECT (source_topic, source_partition, source_offset)
               = (claim.topic, claim.partition, claim."offset")
        FROM jobs WHERE jobs.job_id = claim.job_id
    )
    FROM unnest($5::uuid[], $6::text[], $7::integer[], $8::bigint[])
         WITH ORDINALITY AS claim (job_id, topic, partition, "offset", place)
    ORDER BY place
) AS agrees
"""
"""Moves the offsets, and tells of each claim whether the ledger has the job with that record."""


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

    ended: tuple[UUID, ...]
    """The jobs that it ended."""
    replies: int
    """Outbox rows that can be sent now."""
    to_cancel: int
    """Queued jobs that somebody asked to cancel: the reconciler ends them."""
    endings: Mapping[str, int] = field(default_factory=dict)
    """How many of `ended` there are of each status."""
    duplicate_endings: int = 0
    """Terminal events of jobs that had ended before."""


class StaleOffsetsError(Exception):
    """Another gateway wrote these partitions: the poll was not ours to write."""


class _LostClaimError(Exception):
    """Between two statements another gateway wrote a job of ours, with another record."""


async def write(
    connection: asyncpg.Connection, entries: Sequence[Entry], steps: Sequence[OffsetStep]
) -> Written:
    """Write `entries` and `steps`, all or nothing.

    Raises StaleOffsetsError when another gateway wrote these partitions meanwhile, and what
    asyncpg raises.
    """
    for _ in range(MAX_TRIES):
        with contextlib.suppress(_LostClaimError):
            async with connection.transaction():
                return await _write(connection, entries, steps)
    # Each time another job: the partitions are not quiet enough yet, and are read again.
    raise StaleOffsetsError


async def _write(
    connection: asyncpg.Connection, entries: Sequence[Entry], steps: Sequence[OffsetStep]
) -> Written:
    upheld = await _begin(connection, Claims(entries), steps)
    reports = [entry for entry in upheld if isinstance(entry, Report)]
    new = await _insert_events(connection, reports)
    return await _write_jobs(connection, _patches(upheld, new), new)


def _patches(entries: Sequence[Entry | Claim], new: Sequence[Report]) -> Patches:
    patches = Patches()
    for entry in entries:
        if isinstance(entry, Submission):
            patches.of(entry.job_id).submit(entry.request)
        elif isinstance(entry, Cancellation):
            patches.of(entry.job_id).cancel(entry.requested_at)
        elif isinstance(entry, Claim):
            patches.of(entry.job_id).source = entry.source
    patches.report(report.event for report in new)
    return patches


async def _begin(
    connection: asyncpg.Connection, claims: Claims, steps: Sequence[OffsetStep]
) -> Sequence[Entry | Claim]:
    """Move the offsets. Returns the entries that count: see `claims`."""
    # First, so that of two gateways that both believe they own a partition, one waits here,
    # then finds the offset moved, and gives up.
    moved = columns((step.topic, step.partition, step.since, step.until) for step in steps)
    claimed = columns((claim.job_id, *claim.source) for claim in claims.distinct)
    found = await connection.fetchrow(_BEGIN, *moved, *(claimed or [()] * 4))
    if found["advanced"] != len(steps):
        raise StaleOffsetsError
    return claims.upheld(found["agrees"])


async def _insert_events(connection: asyncpg.Connection, reports: Sequence[Report]) -> list[Report]:
    """Append to the history. Returns the reports that were not in it, in their order."""
    if not reports:
        return []
    rows = (event_row(report.event) for report in reports)
    inserted = await connection.fetch(INSERT_EVENTS, *columns(rows))
    new = {tuple(key) for key in inserted}
    fresh = []
    for report in reports:
        key = (report.event.job_id, report.event.at, report.event.event_id)
        if key in new:
            new.remove(key)  # it may be in this poll twice
            fresh.append(report)
    return fresh


async def _write_jobs(
    connection: asyncpg.Connection, patches: Patches, reports: Sequence[Report]
) -> Written:
    """Merge `patches` into the jobs."""
    ordered = patches.ordered()
    if not ordered:
        return Written((), 0, 0)
    jobs = await connection.fetch(UPSERT_JOBS, *columns(map(job_row, ordered)))
    if len(jobs) < len(ordered):
        raise _LostClaimError
    by_id = {job["job_id"]: job for job in jobs}
    await _complete_times(connection, [(patch, by_id[patch.job_id]) for patch in ordered])
    # The events are new: a job that has one of them as its end got it in this transaction.
    endings = [
        Ending(report, job)
        for report in reports
        if report.event.type.is_terminal and _is_end_of(job := by_id[report.event.job_id], report)
    ]
    await _insert_results(connection, endings)
    replies = await reply_outbox.add(connection, _replies(endings))
    replies += await reply_outbox.address_held(connection, _ended_before(patches, jobs, endings))
    ended = tuple(ending.report.event.job_id for ending in endings)
    return Written(
        ended,
        replies,
        to_cancel=sum(map(_is_to_cancel, jobs)),
        endings=Counter(ending.report.event.type.value for ending in endings),
        duplicate_endings=sum(each.event.type.is_terminal for each in reports) - len(endings),
    )


def _is_end_of(job: asyncpg.Record, report: Report) -> bool:
    # With its time: when two gateways end a job, their events differ in nothing else.
    end = (job["terminal_event_id"], job["finished_at"])
    return end == (report.event.event_id, report.event.at)


async def _complete_times(
    connection: asyncpg.Connection, merged: Iterable[tuple[JobPatch, asyncpg.Record]]
) -> None:
    """Where the row did not have, or did not get, all times of the attempt that ended the job."""
    incomplete = [
        patch.job_id
        for patch, job in merged
        if job["terminal_event_id"] is not None
        and (len(patch.attempts) > 1 or (patch.outcome and job["attempt"] < job["newest_attempt"]))
    ]
    if incomplete:
        await connection.execute(TIMES_FROM_HISTORY, incomplete)


@dataclass(frozen=True, slots=True)
class Ending:
    """The event that ended a job, and what the ledger then knows of the job."""

    report: Report
    job: asyncpg.Record


def _ended_before(
    patches: Patches, jobs: Sequence[asyncpg.Record], endings: Sequence[Ending]
) -> list[tuple[UUID, str | None]]:
    """Jobs whose record is known now and that ended in an earlier poll, and their reply topics."""
    just_ended = {ending.job["job_id"] for ending in endings}
    return [
        (job["job_id"], job["reply_topic"])
        for job in jobs
        if job["terminal_event_id"]
        and job["job_id"] not in just_ended
        and patches.of(job["job_id"]).request is not None
    ]


def _is_to_cancel(job: asyncpg.Record) -> bool:
    known_and_asked = job["arrived_at"] is not None and job["cancel_requested_at"] is not None
    return known_and_asked and job["status"] == JobStatus.QUEUED


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
