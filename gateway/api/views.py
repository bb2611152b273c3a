"""Jobs as the API shows them."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from gateway.ledger.projection import JobPatch, Request
from gateway.ledger.queries import JobRecord
from gateway.ledger.rows import JOB_COLUMNS, job_row

Status = Literal["queued", "admitted", "running", "completed", "failed", "expired", "cancelled"]


class View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class DeadlinesView(View):
    first_token_at: datetime | None = None
    """Interactive jobs: when the first token is due."""
    last_token_at: datetime | None = None
    """Batch jobs: when the last token is due."""


class LinksView(View):
    self: str
    """The job itself: GET to follow it, DELETE to cancel it."""


class AcceptedView(View):
    """A job that was accepted: it is in the log, and will be served or answered."""

    job_id: UUID
    status: Status
    arrived_at: datetime
    deadlines: DeadlinesView
    links: LinksView


class QosView(View):
    name: str | None = None
    """The class that the job named; null when it gave explicit targets."""
    kind: Literal["interactive", "batch"]
    ttft_s: float | None = None
    tbt_s: float | None = None
    ttlt_s: float | None = None


class UsageView(View):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt's tokens, those that the prefix cache had."""


class MeasuredView(View):
    """What the job got. Each is null until it is known."""

    queue_s: float | None = None
    """From arrival until a worker took the job."""
    ttft_s: float | None = None
    """From arrival to the first token."""
    largest_gap_ms: float | None = None
    """The longest time between two tokens."""
    ttlt_s: float | None = None
    """From arrival to the end."""


class DeadlinesMetView(View):
    """Whether the job got what it asked for. Null: not asked for, or not known yet."""

    ttft: bool | None = None
    tbt: bool | None = None
    ttlt: bool | None = None


class ResultView(View):
    text: str
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] | None = None


class ErrorView(View):
    code: str
    """For programs."""
    message: str | None = None
    """For people."""


class EventView(View):
    type: str
    at: datetime
    attempt: int
    worker_id: str
    reason: str | None = None
    prediction: dict[str, Any] | None = None
    """What a scheduling decision was based on."""


class JobSummary(View):
    """A job in a list."""

    job_id: UUID
    status: Status
    pool: str | None = None
    model: str | None = None
    tenant: str | None = None
    application: str | None = None
    importance: str | None = None
    qos: QosView | None = None
    expire_after_s: float | None = None
    """It expires when its prompt has not begun to be computed this long after its arrival."""
    metadata: dict[str, str] = {}
    arrived_at: datetime | None = None
    """When it was published. Null: the ledger has events of the job, and not yet the job."""
    admitted_at: datetime | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    deadlines: DeadlinesView
    slack_s: float | None = None
    """Seconds left until the deadline, negative after it. Null once it was met, or at the end."""
    deadlines_met: DeadlinesMetView
    measured: MeasuredView
    attempt: int
    """1 for the first; 0 while no worker has taken the job."""
    worker_id: str | None = None
    relegated: bool
    """Predicted to miss its deadline, and therefore served when there is room."""
    relegations: int
    parks: int
    duplicate_endings: int
    """Terminal events after the first one. They changed nothing."""
    usage: UsageView
    error: ErrorView | None = None
    reason: str | None = None
    """Why it was cancelled or expired."""
    links: LinksView


class JobView(JobSummary):
    """A job with its result and its history."""

    result: ResultView | None = None
    events: list[EventView]


class JobList(View):
    """One page of jobs, the last published first."""

    jobs: list[JobSummary]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page. Null on the last page."""


def links(job_id: UUID) -> LinksView:
    return LinksView(self=f"/v1/jobs/{job_id}")


def accepted(job_id: UUID, job: Any) -> AcceptedView:
    """A job that is in the log. ``job`` has the columns of its row, or those of its request."""
    return AcceptedView(
        job_id=job_id,
        status=getattr(job, "status", "queued"),
        arrived_at=job.arrived_at,
        deadlines=_deadlines(job),
        links=links(job_id),
    )


def just_accepted(job_id: UUID, request: Request, now: datetime) -> JobView:
    """A job that the ledger does not have yet, as it will be there."""
    patch = JobPatch(job_id, request)
    row = SimpleNamespace(**dict(zip(JOB_COLUMNS, job_row(patch), strict=True)))
    row.metadata = request.metadata
    return JobView(**_summary_fields(row, now), events=[])


def detailed(record: JobRecord, now: datetime) -> JobView:
    """Everything about a job at the time ``now``."""
    return JobView(
        **_summary_fields(record.job, now),
        result=_result(record.job),
        events=[EventView.model_validate(event, from_attributes=True) for event in record.events],
    )


def summary(job: Any, now: datetime) -> JobSummary:
    """A row of ``jobs`` at the time ``now``."""
    return JobSummary(**_summary_fields(job, now))


def _result(job: Any) -> ResultView | None:
    return None if job.text is None else ResultView.model_validate(job, from_attributes=True)


def _summary_fields(job: Any, now: datetime) -> dict[str, Any]:
    same = (
        *("job_id", "status", "pool", "model", "tenant", "application", "importance"),
        *("arrived_at", "admitted_at", "started_at", "first_token_at", "finished_at"),
        *("cancel_requested_at", "attempt", "worker_id", "relegations", "parks", "expire_after_s"),
    )
    return {name: getattr(job, name) for name in same} | {
        "qos": _qos(job),
        "metadata": job.metadata or {},
        "deadlines": _deadlines(job),
        "slack_s": _slack_s(job, now),
        "deadlines_met": _deadlines_met(job, now),
        "measured": _measured(job),
        "relegated": _is_relegated(job),
        "duplicate_endings": max(job.terminal_events - 1, 0),
        "usage": UsageView.model_validate(job, from_attributes=True),
        "error": _error(job),
        "reason": job.outcome_reason,
        "links": links(job.job_id),
    }


def _qos(job: Any) -> QosView | None:
    if job.kind is None:
        return None
    return QosView(
        name=job.qos_class, kind=job.kind, ttft_s=job.ttft_s, tbt_s=job.tbt_s, ttlt_s=job.ttlt_s
    )


def _deadlines(job: Any) -> DeadlinesView:
    if job.kind == "interactive":
        return DeadlinesView(first_token_at=job.deadline_at)
    return DeadlinesView(last_token_at=job.deadline_at)


def _slack_s(job: Any, now: datetime) -> float | None:
    met = job.first_token_at if job.kind == "interactive" else job.finished_at
    if job.deadline_at is None or met is not None or job.finished_at is not None:
        return None
    slack: float = (job.deadline_at - now).total_seconds()
    return slack


def _deadlines_met(job: Any, now: datetime) -> DeadlinesMetView:
    if job.status == "cancelled":
        return DeadlinesMetView()
    if job.kind == "interactive":
        gap_ms = job.largest_gap_ms
        over = job.status == "completed"
        tbt = None if gap_ms is None else gap_ms <= job.tbt_s * 1000
        return DeadlinesMetView(
            ttft=_met(job.first_token_at, job, now),
            # A small gap so far says nothing about the gaps to come.
            tbt=True if over and gap_ms is None else (tbt if over or tbt is False else None),
        )
    completed_at = job.finished_at if job.status == "completed" else None
    return DeadlinesMetView(ttlt=_met(completed_at, job, now))


def _met(at: datetime | None, job: Any, now: datetime) -> bool | None:
    if job.deadline_at is None:
        return None
    if at is not None:
        return bool(at <= job.deadline_at)
    return False if job.finished_at is not None or now > job.deadline_at else None


def _measured(job: Any) -> MeasuredView:
    return MeasuredView(
        queue_s=_seconds(job.arrived_at, job.admitted_at),
        ttft_s=_seconds(job.arrived_at, job.first_token_at),
        largest_gap_ms=job.largest_gap_ms,
        ttlt_s=_seconds(job.arrived_at, job.finished_at),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def _is_relegated(job: Any) -> bool:
    if job.relegated_at is None:
        return False
    return job.restored_at is None or job.restored_at < job.relegated_at


def _error(job: Any) -> ErrorView | None:
    if job.error_code is None:
        return None
    return ErrorView(code=job.error_code, message=job.error_message)
