"""What a job's records say about it, whatever their order and grouping.

A job's row is the merge of everything known of the job. Each group of columns has one rule:

- the request: the first record of the job wins, as a whole;
- the attempt: the highest attempt wins; within it, the earliest time and the largest count;
- the outcome: the first terminal event wins, as a whole, and never changes;
- what happens on the way is counted, or kept as the first or the last time.

The rules are carried out twice: here among the records of one poll, and in ``merge`` between
that and the row in Postgres. An event counts once; the writer passes only those that are new.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from schemas import EventType, JobEvent


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. Everything but where it came from is absent for an invalid job."""

    arrived_at: datetime
    pool: str
    source_topic: str
    source_partition: int
    source_offset: int
    request_sha256: bytes
    model: str | None = None
    tenant: str | None = None
    application: str | None = None
    importance: str | None = None
    qos_class: str | None = None
    kind: str | None = None
    ttft_s: float | None = None
    tbt_s: float | None = None
    ttlt_s: float | None = None
    deadline_at: datetime | None = None
    expire_after_s: float | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    reply_topic: str | None = None
    metadata: dict[str, str] | None = None


@dataclass(slots=True)
class Attempt:
    """How far the newest attempt has come."""

    attempt: int = 0
    status: str = "queued"
    worker_id: str | None = None
    admitted_at: datetime | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    largest_gap_ms: float | None = None

    def add(self, event: JobEvent) -> None:
        """Take in an event of this attempt."""
        self.worker_id = _least(self.worker_id, event.worker_id)
        status, time = _STEPS.get(event.type, ("admitted", None))
        if _RANK[status] > _RANK[self.status]:
            self.status = status
        if time is not None:
            setattr(self, time, _least(getattr(self, time), event.at))
        if event.usage is not None:
            self.prompt_tokens = _most(self.prompt_tokens, event.usage.prompt_tokens)
            self.completion_tokens = _most(self.completion_tokens, event.usage.completion_tokens)
            self.cached_tokens = _most(self.cached_tokens, event.usage.cached_tokens)
        if event.largest_gap_ms is not None:
            self.largest_gap_ms = _most(self.largest_gap_ms, event.largest_gap_ms)


# The status that an event proves, and the time that it is.
_STEPS = {
    EventType.ADMITTED: ("admitted", "admitted_at"),
    EventType.STARTED: ("running", "started_at"),
    EventType.FIRST_TOKEN: ("running", "first_token_at"),
}
_RANK = {"queued": 0, "admitted": 1, "running": 2}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the job ended."""

    finished_at: datetime
    terminal_event_id: UUID
    finish_reason: str | None
    error_code: str | None
    error_message: str | None
    outcome_reason: str | None


@dataclass(slots=True)
class JobPatch:
    """Everything that some records say about one job."""

    job_id: UUID
    request: Request | None = None
    attempt: Attempt = field(default_factory=Attempt)
    outcome: Outcome | None = None
    outcome_status: str | None = None
    cancel_requested_at: datetime | None = None
    relegated_at: datetime | None = None
    restored_at: datetime | None = None
    relegations: int = 0
    parks: int = 0
    terminal_events: int = 0

    @property
    def status(self) -> str:
        return self.outcome_status or self.attempt.status

    def submit(self, request: Request) -> None:
        """Take in the job's own record."""
        self.request = self.request or request

    def cancel(self, requested_at: datetime) -> None:
        """Take in a request to cancel it."""
        self.cancel_requested_at = _least(self.cancel_requested_at, requested_at)

    def report(self, event: JobEvent) -> None:
        """Take in an event that was not taken in before."""
        if event.attempt > self.attempt.attempt:
            self.attempt = Attempt(event.attempt)
        if event.attempt == self.attempt.attempt:
            self.attempt.add(event)
        if event.type.is_terminal:
            self._end(event)
        elif event.type is EventType.RELEGATED:
            self.relegations += 1
            self.relegated_at = _most(self.relegated_at, event.at)
        elif event.type is EventType.RESTORED:
            self.restored_at = _most(self.restored_at, event.at)
        elif event.type is EventType.PARKED:
            self.parks += 1

    def _end(self, event: JobEvent) -> None:
        self.terminal_events += 1
        if self.outcome is not None:
            return
        self.outcome_status = event.type.value
        self.outcome = Outcome(
            finished_at=event.at,
            terminal_event_id=event.event_id,
            finish_reason=event.result.finish_reason if event.result else None,
            error_code=event.error.code if event.error else None,
            error_message=event.error.message if event.error else None,
            outcome_reason=event.reason,
        )


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
        """In the order of job ids: whoever locks rows locks them in the same order."""
        return sorted(self._by_job.values(), key=lambda patch: patch.job_id.int)

    def report(self, events: Iterable[JobEvent]) -> None:
        for event in events:
            self.of(event.job_id).report(event)


_T = TypeVar("_T", int, float, str, datetime)


def _least(known: _T | None, new: _T) -> _T:
    return new if known is None or new < known else known


def _most(known: _T | None, new: _T) -> _T:
    return new if known is None or new > known else known
