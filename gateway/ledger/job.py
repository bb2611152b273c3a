"""A job as the ledger has it: one row of `jobs`, in its groups of columns."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from gateway.ledger.request import Request
from schemas import JobStatus, JobTimes


@dataclass(slots=True)
class Attempt:
    """How far one attempt has come: the one that ended the job, and of an open job the newest.

    Filled in event by event, see `projection`.
    """

    attempt: int = 0
    """1 for the first; 0 while no worker has taken the job."""
    worker_id: str | None = None
    admitted_at: datetime | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    largest_gap_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the job ended."""

    finished_at: datetime
    terminal_event_id: UUID
    finish_reason: str | None
    error_code: str | None
    error_message: str | None
    outcome_reason: str | None
    """Why it was cancelled or expired."""
    times: JobTimes | None = None
    """Where the time went. None: its end was not reported by the worker that ran it."""
    trace_id: str | None = None
    """None: no trace of it was kept."""


@dataclass(slots=True)
class Incidents:
    """What happened on the way, whichever attempt it happened to."""

    cancel_requested_at: datetime | None = None
    """The first time."""
    relegated_at: datetime | None = None
    """The last time."""
    restored_at: datetime | None = None
    """The last time."""
    relegations: int = 0
    parks: int = 0
    terminal_events: int = 0
    """Above 1: duplicates, which changed nothing."""
    newest_attempt: int = 0
    """The highest that was reported, also after another one has ended the job."""

    @property
    def is_relegated(self) -> bool:
        """Relegated, and not restored since."""
        if self.relegated_at is None:
            return False
        return self.restored_at is None or self.restored_at < self.relegated_at


@dataclass(frozen=True, slots=True)
class Job:
    """A job at one moment. What is not given is what a job has that was just published."""

    job_id: UUID
    request: Request | None
    """None while only events of the job are known."""
    status: JobStatus = JobStatus.QUEUED
    attempt: Attempt = field(default_factory=Attempt)
    outcome: Outcome | None = None
    """None while the job is open."""
    incidents: Incidents = field(default_factory=Incidents)
    abandoned_at: datetime | None = None
    """Since when no worker will report on it any more, although it is open."""
