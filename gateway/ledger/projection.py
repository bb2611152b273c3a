"""What a job's records say about it, whatever their order and grouping.

A job's row is the merge of everything known of the job. Each group of columns has one rule:

- the request: the first record of the job wins, as a whole;
- the attempt: the highest attempt wins; within it, the earliest time and the largest count;
- the outcome: the first terminal event wins, as a whole, and never changes;
- incidents on the way are counted, or kept as the first or the last time.

The rules are carried out twice: here among the records of one poll, and in `merge` between
that and the row in Postgres. An event counts once; the writer passes only those that are new.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from gateway.ledger.job import Attempt, Incidents, Outcome
from gateway.ledger.request import Request
from schemas import EventType, JobEvent, JobStatus

_STEPS = {
    EventType.ADMITTED: (JobStatus.ADMITTED, "admitted_at"),
    EventType.STARTED: (JobStatus.RUNNING, "started_at"),
    EventType.FIRST_TOKEN: (JobStatus.RUNNING, "first_token_at"),
}
"""The status that an event proves, and the time that it is. Any other proves an admission."""
_NO_STEP = (JobStatus.ADMITTED, None)
_RANK = {status: rank for rank, status in enumerate(JobStatus)}


@dataclass(slots=True)
class JobPatch:
    """Everything that some records say about one job."""

    job_id: UUID
    request: Request | None = None
    status: JobStatus = JobStatus.QUEUED
    attempt: Attempt = field(default_factory=Attempt)
    outcome: Outcome | None = None
    incidents: Incidents = field(default_factory=Incidents)

    def submit(self, request: Request) -> None:
        """Take in the job's own record."""
        self.request = self.request or request

    def cancel(self, requested_at: datetime) -> None:
        """Take in a request to cancel it."""
        incidents = self.incidents
        incidents.cancel_requested_at = _smallest(incidents.cancel_requested_at, requested_at)

    def report(self, event: JobEvent) -> None:
        """Take in an event that was not taken in before."""
        if event.attempt > self.attempt.attempt:
            self.attempt = Attempt(event.attempt)
            if self.outcome is None:
                self.status = JobStatus.QUEUED
        if event.attempt == self.attempt.attempt:
            self._advance(event)
        if event.type.is_terminal:
            self._end(event)
        else:
            _count(self.incidents, event)

    def _advance(self, event: JobEvent) -> None:
        """The event is of the newest attempt."""
        status, time = _STEPS.get(event.type, _NO_STEP)
        if _RANK[status] > _RANK[self.status]:
            self.status = status
        _measure(self.attempt, event, time)

    def _end(self, event: JobEvent) -> None:
        self.incidents.terminal_events += 1
        if self.outcome is not None:
            return
        self.status = JobStatus(event.type)
        self.outcome = Outcome(
            finished_at=event.at,
            terminal_event_id=event.event_id,
            finish_reason=event.result.finish_reason if event.result else None,
            error_code=event.error.code if event.error else None,
            error_message=event.error.message if event.error else None,
            outcome_reason=event.reason,
        )


def _measure(attempt: Attempt, event: JobEvent, time: str | None) -> None:
    """Take in an event of this attempt; it happened at the attempt's `time`, if it has a name."""
    attempt.worker_id = _smallest(attempt.worker_id, event.worker_id)
    if time is not None:
        setattr(attempt, time, _smallest(getattr(attempt, time), event.at))
    if event.usage is not None:
        usage = event.usage
        attempt.prompt_tokens = _largest(attempt.prompt_tokens, usage.prompt_tokens)
        attempt.completion_tokens = _largest(attempt.completion_tokens, usage.completion_tokens)
        attempt.cached_tokens = _largest(attempt.cached_tokens, usage.cached_tokens)
    if event.largest_gap_ms is not None:
        attempt.largest_gap_ms = _largest(attempt.largest_gap_ms, event.largest_gap_ms)


def _count(incidents: Incidents, event: JobEvent) -> None:
    if event.type is EventType.RELEGATED:
        incidents.relegations += 1
        incidents.relegated_at = _largest(incidents.relegated_at, event.at)
    elif event.type is EventType.RESTORED:
        incidents.restored_at = _largest(incidents.restored_at, event.at)
    elif event.type is EventType.PARKED:
        incidents.parks += 1


class Patches:
    """One patch for each job that some records are about."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, JobPatch] = {}

    def of(self, job_id: UUID) -> JobPatch:
        patch = self._by_job.get(job_id)
        if patch is None:
            patch = self._by_job[job_id] = JobPatch(job_id)
        return patch

    def ordered(self) -> list[JobPatch]:
        """In the order of job ids: transactions that lock rows in one order cannot deadlock."""
        return sorted(self._by_job.values(), key=lambda patch: patch.job_id.int)

    def report(self, events: Iterable[JobEvent]) -> None:
        for event in events:
            self.of(event.job_id).report(event)


_T = TypeVar("_T", int, float, str, datetime)


def _smallest(known: _T | None, new: _T) -> _T:
    return new if known is None or new < known else known


def _largest(known: _T | None, new: _T) -> _T:
    return new if known is None or new > known else known
