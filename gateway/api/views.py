"""Jobs as the API shows them."""

from dataclasses import fields
from datetime import datetime
from typing import Any, TypedDict, assert_never
from uuid import UUID

from pydantic import Field

from gateway.api.time_views import TimesView, times_view
from gateway.api.view import Measured, View
from gateway.ledger import timing
from gateway.ledger.breakdown import breakdown
from gateway.ledger.job import Job, Outcome
from gateway.ledger.lateness import why_late
from gateway.ledger.queries import JobRecord
from gateway.ledger.reply_state import ReplyState
from gateway.ledger.request import Request
from schemas import JobStatus, Kind


class DeadlinesView(View):
    first_token_at: datetime | None = None
    """Interactive jobs: when the first token is due."""
    last_token_at: datetime | None = None
    """Other jobs: when the last token is due. For a call of a task: the task's deadline."""


class LinksView(View):
    self: str
    """The job itself: GET to follow it, DELETE to cancel it."""


class AcceptedView(View):
    """A job that was accepted: it is in the log, and will be served or answered."""

    job_id: UUID
    status: JobStatus
    arrived_at: datetime
    deadlines: DeadlinesView
    links: LinksView


class TaskView(View):
    """The task that the job is a call of."""

    id: str
    deadline: datetime
    call: int | None = None
    calls_left: int | None = None


class QosView(View):
    name: str | None = None
    """The class that the job named; null when it gave explicit targets."""
    kind: Kind
    ttft_ms: float | None = None
    tbt_ms: float | None = None
    ttlt_ms: float | None = None
    ttlt_s: float | None = None
    task: TaskView | None = None


class UsageView(View):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """The prompt's tokens that were in the prefix cache."""


class MeasuredView(View):
    """What the job got. Each is null until it is known."""

    queue_s: Measured | None = None
    """From arrival until a worker took the job."""
    ttft_ms: Measured | None = None
    """From arrival to the first token."""
    largest_gap_ms: Measured | None = None
    """The longest time between two tokens."""
    ttlt_s: Measured | None = None
    """From arrival to the end."""


class DeadlinesMetView(View):
    """Whether the job got what it asked for. Null: not asked for, or not known yet."""

    ttft: bool | None = None
    tbt: bool | None = None
    ttlt: bool | None = None
    """Every call of a task, an early one too, is judged by the deadline of the whole task."""


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
    status: JobStatus
    pool: str | None = None
    model: str | None = None
    tenant: str | None = None
    application: str | None = None
    importance: str | None = None
    qos: QosView | None = None
    expire_after_s: float | None = None
    """It expires when its prefill has not started this long after its arrival."""
    metadata: dict[str, str] = Field(default_factory=dict)
    arrived_at: datetime | None = None
    """When it was published. Null: the ledger has events of the job, but not yet the job."""
    admitted_at: datetime | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    abandoned_at: datetime | None = None
    """Since when no worker will report on it any more, although it has not ended: its record is
    marked as done, and no event says how."""
    deadlines: DeadlinesView
    slack_s: Measured | None = None
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


class ReplyView(View):
    topic: str
    state: ReplyState
    """Pending until it is in its topic; undeliverable when that was tried for too long."""
    error: str | None = None
    """Why it could not be sent the last time."""


class JobView(JobSummary):
    """A job with its result, its reply and its history."""

    times: TimesView | None = None
    """Null while only events of the job are known."""
    why_late: str | None = None
    """Which decision or wait cost the job its deadline. Null: it missed none."""
    trace_id: str | None = None
    """Of the job's trace, in the collector that its worker sends to. Null: none was kept."""
    result: ResultView | None = None
    reply: ReplyView | None = None
    """What became of the reply. Null: the job named no reply topic."""
    events: list[EventView]


class JobList(View):
    """One page of jobs, the last published first."""

    jobs: list[JobSummary]
    next_cursor: str | None
    """Give it as `cursor` to get the next page. Null on the last page."""


def _links(job_id: UUID) -> LinksView:
    return LinksView(self=f"/v1/jobs/{job_id}")


def accepted(job: Job) -> AcceptedView:
    """A job that is in the log."""
    assert job.request is not None
    return AcceptedView(
        job_id=job.job_id,
        status=job.status,
        arrived_at=job.request.arrived_at,
        deadlines=_deadlines(job.request),
        links=_links(job.job_id),
    )


def detailed(record: JobRecord, now: datetime) -> JobView:
    """Everything about a job at the time `now`."""
    spent = breakdown(record.job, record.history, now)
    return JobView(
        **dict(summary(record.job, now)),
        times=spent and times_view(spent),
        why_late=spent and why_late(record.job, spent, record.history, now),
        trace_id=record.job.outcome.trace_id if record.job.outcome else None,
        result=record.result and ResultView.model_validate(record.result),
        reply=record.reply and ReplyView.model_validate(record.reply),
        events=[EventView.model_validate(entry) for entry in record.history],
    )


def summary(job: Job, now: datetime) -> JobSummary:
    """A job at the time `now`."""
    return JobSummary(
        job_id=job.job_id,
        status=job.status,
        qos=_qos(job.request),
        deadlines=_deadlines(job.request),
        slack_s=timing.slack_s(job, now),
        deadlines_met=_deadlines_met(job, now),
        measured=_measured(job),
        abandoned_at=job.abandoned_at,
        relegated=job.incidents.is_relegated,
        duplicate_endings=max(job.incidents.terminal_events - 1, 0),
        usage=UsageView.model_validate(job.attempt),
        error=_error(job.outcome),
        reason=job.outcome.outcome_reason if job.outcome else None,
        links=_links(job.job_id),
        **_columns(job),
    )


def _columns(job: Job) -> dict[str, Any]:
    """What the ledger knows of the job, by column. A summary takes the columns that it has."""
    groups = (job.request, job.attempt, job.outcome, job.incidents)
    values = {
        column.name: getattr(group, column.name)
        for group in groups
        if group is not None
        for column in fields(group)
    }
    return {name: value for name, value in values.items() if value is not None}


def _qos(request: Request | None) -> QosView | None:
    if request is None or request.kind is None:
        return None
    return QosView(
        name=request.qos_class,
        kind=request.kind,
        ttft_ms=request.ttft_ms,
        tbt_ms=request.tbt_ms,
        task=_task(request),
        **_whole_answer(request),
    )


class _WholeAnswer(TypedDict, total=False):
    ttlt_ms: float | None
    ttlt_s: float | None


def _whole_answer(request: Request) -> _WholeAnswer:
    """The target of the last token, in the unit in which jobs of this kind state it."""
    match request.kind:
        case Kind.DEADLINE:
            return {"ttlt_ms": request.ttlt_ms}
        case Kind.BATCH:
            return {"ttlt_s": request.ttlt_s}
        case Kind.INTERACTIVE | Kind.TASK | None:
            return {}
        case _:
            assert_never(request.kind)


def _task(request: Request) -> TaskView | None:
    if request.task_id is None or request.deadline_at is None:
        return None
    return TaskView(
        id=request.task_id,
        deadline=request.deadline_at,
        call=request.task_call,
        calls_left=request.task_calls_left,
    )


def _deadlines(request: Request | None) -> DeadlinesView:
    if request is None:
        return DeadlinesView()
    if timing.deadline_is_first_token(request):
        return DeadlinesView(first_token_at=request.deadline_at)
    return DeadlinesView(last_token_at=request.deadline_at)


def _deadlines_met(job: Job, now: datetime) -> DeadlinesMetView:
    return DeadlinesMetView(
        ttft=timing.ttft_met(job, now),
        tbt=timing.tbt_met(job),
        ttlt=timing.ttlt_met(job, now),
    )


def _measured(job: Job) -> MeasuredView:
    return MeasuredView(
        queue_s=timing.queue_s(job),
        ttft_ms=timing.ttft_ms(job),
        largest_gap_ms=job.attempt.largest_gap_ms,
        ttlt_s=timing.ttlt_s(job),
    )


def _error(outcome: Outcome | None) -> ErrorView | None:
    if outcome is None or outcome.error_code is None:
        return None
    return ErrorView(code=outcome.error_code, message=outcome.error_message)
