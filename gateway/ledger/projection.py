"""What a job's records say about it, whatever their order and grouping.

A job's row is the merge of everything known of the job. Each group of columns has one rule:

- the request: the first record of the job wins, as a whole;
- the attempt: the highest attempt wins; within it, the earliest time and the largest count;
- the outcome: the first terminal event wins, as a whole, and never changes. The attempt is then
  the one that ended the job, with that event's worker and counts;
- incidents on the way are counted, or kept as the first or the last time.

The rules are carried out twice: here among the records of one poll, and in `merge` between
that and the row in Postgres. An event counts once; the writer passes only those that are new,
and only those of the record that the job's id belongs to, see `claims`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from gateway.ledger.claims import Position
from gateway.ledger.job import Attempt, Incidents, Outcome
from gateway.ledger.request import Request
from schemas import EventType, JobEvent, JobStatus
from schemas.event import LEDGER

STEPS = {
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
    source: Position | None = None
    """The record that it is about. None: entries that name no record, such as cancellations."""
    request: Request | None = None
    status: JobStatus = JobStatus.QUEUED
    attempts: dict[int, Attempt] = field(default_factory=dict)
    """By their numbers: any of them may be the one that ends, or has ended, the job."""
    ended_by: int | None = None
    """The attempt of the outcome."""
    outcome: Outcome | None = None
    incidents: Incidents = field(default_factory=Incidents)

    @property
    def attempt(self) -> Attempt:
        """The attempt that ended the job; of an open job, the newest."""
        if self.ended_by is not None:
            return self.attempts[self.ended_by]
        return self.attempts[max(self.attempts)] if self.attempts else Attempt()

    def submit(self, request: Request) -> None:
        """Take in the job's own record."""
        self.request = self.request or request
        self.source = Position.of_record(request)

    def cancel(self, requested_at: datetime) -> None:
        """Take in a request to cancel it."""
        incidents = self.incidents
        incidents.cancel_requested_at = _smallest(incidents.cancel_requested_at, requested_at)

    def report(self, event: JobEvent) -> None:
        """Take in an event that was not taken in before."""
        self.source = Position.of_event(event) or self.source
        if event.worker_id == LEDGER and event.type.is_terminal:
            self._end_unattempted(event)
            return
        attempt = self._attempt(event.attempt)
        status, time = STEPS.get(event.type, _NO_STEP)
        if time is not None:
            setattr(attempt, time, _smallest(getattr(attempt, time), event.at))
        if event.type.is_terminal:
            self.incidents.terminal_events += 1
            self._end(event)
            return
        _count(self.incidents, event)
        if self.outcome is None:
            _measure(attempt, event)
            if attempt.attempt == self.incidents.newest_attempt:
                self.status = max(status, self.status, key=_RANK.__getitem__)

    def _end_unattempted(self, event: JobEvent) -> None:
        """The ledger ends jobs that no worker took. A worker that drops one repeats nothing."""
        if self.outcome is None:
            self.attempts[0] = Attempt()
            self.ended_by = 0
            self.status, self.outcome = JobStatus(event.type), _outcome(event)

    def _attempt(self, number: int) -> Attempt:
        if number > self.incidents.newest_attempt:
            self.incidents.newest_attempt = number
            if self.outcome is None:
                self.status = JobStatus.QUEUED
        attempt = self.attempts.get(number)
        if attempt is None:
            attempt = self.attempts[number] = Attempt(number)
        return attempt

    def _end(self, event: JobEvent) -> None:
        if self.outcome is not None:
            return
        self.status, self.outcome = JobStatus(event.type), _outcome(event)
        # Worker and counts are this event's alone: what others of the attempt said is superseded.
        seen = self.attempts[event.attempt]
        ended = Attempt(
            event.attempt,
            admitted_at=seen.admitted_at,
            started_at=seen.started_at,
            first_token_at=seen.first_token_at,
        )
        _measure(ended, event)
        self.attempts[event.attempt], self.ended_by = ended, event.attempt


def _outcome(event: JobEvent) -> Outcome:
    return Outcome(
        finished_at=event.at,
        terminal_event_id=event.event_id,
        finish_reason=event.result.finish_reason if event.result else None,
        error_code=event.error.code if event.error else None,
        error_message=event.error.message if event.error else None,
        outcome_reason=event.reason,
        times=event.times,
        trace_id=event.trace_id,
    )


def _measure(attempt: Attempt, event: JobEvent) -> None:
    """Take in what an event of this attempt says beside its time."""
    attempt.worker_id = _smallest(attempt.worker_id, event.worker_id)
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
