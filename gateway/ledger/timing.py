"""How a job stands against its deadlines, and how long it took: pure functions of its row."""

from datetime import datetime, timedelta
from typing import assert_never

from gateway.ledger.job import Job
from gateway.ledger.request import Request
from schemas import JobStatus, Kind


def deadline_is_first_token(request: Request) -> bool:
    """Whether the deadline, if there is one, is for the first token. If not, it is for the last."""
    match request.kind:
        case Kind.INTERACTIVE:
            return True
        case Kind.DEADLINE | Kind.TASK | Kind.BATCH | None:
            return False
        case _:
            assert_never(request.kind)


def slack_s(job: Job, now: datetime) -> float | None:
    """Seconds left until the deadline, negative after it. None once it was met, or at the end."""
    request = job.request
    if request is None or request.deadline_at is None or job.outcome is not None:
        return None
    if deadline_is_first_token(request) and job.attempt.first_token_at is not None:
        return None
    return (request.deadline_at - now).total_seconds()


def ttft_met(job: Job, now: datetime) -> bool | None:
    """Whether the first token came in time. None: not asked for, or not known yet."""
    request = _judged(job)
    if request is None or not deadline_is_first_token(request):
        return None
    return _met(job, request, job.attempt.first_token_at, now)


def tbt_met(job: Job) -> bool | None:
    """Whether no gap between two tokens was too long. None: not asked for, or not known yet."""
    request = _judged(job)
    if request is None or request.tbt_ms is None:
        return None
    gap_ms = job.attempt.largest_gap_ms
    if gap_ms is not None and gap_ms > request.tbt_ms:
        return False
    # A small gap so far says nothing about the gaps to come.
    return True if job.status is JobStatus.COMPLETED else None


def ttlt_met(job: Job, now: datetime) -> bool | None:
    """Whether the job completed in time. None: not asked for, or not known yet."""
    request = _judged(job)
    if request is None or deadline_is_first_token(request):
        return None
    completed_at = _finished_at(job) if job.status is JobStatus.COMPLETED else None
    return _met(job, request, completed_at, now)


def queue_s(job: Job) -> float | None:
    """From arrival until a worker took the job."""
    return _seconds(_since_arrival(job, job.attempt.admitted_at))


def ttft_ms(job: Job) -> float | None:
    """From arrival to the first token."""
    waited = _since_arrival(job, job.attempt.first_token_at)
    return None if waited is None else waited / timedelta(milliseconds=1)


def ttlt_s(job: Job) -> float | None:
    """From arrival to the end."""
    return _seconds(_since_arrival(job, _finished_at(job)))


def _judged(job: Job) -> Request | None:
    """The request. None of a cancelled job: it neither met nor missed anything."""
    return None if job.status is JobStatus.CANCELLED else job.request


def _met(job: Job, request: Request, at: datetime | None, now: datetime) -> bool | None:
    """Whether what the deadline is about, which happened `at`, was in time."""
    if request.deadline_at is None:
        return None
    if at is not None:
        return at <= request.deadline_at
    return False if job.outcome is not None or now > request.deadline_at else None


def _finished_at(job: Job) -> datetime | None:
    return job.outcome.finished_at if job.outcome else None


def _since_arrival(job: Job, at: datetime | None) -> timedelta | None:
    return None if job.request is None or at is None else at - job.request.arrived_at


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
