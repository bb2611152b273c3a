"""`/v1/jobs`: submit, follow, list, cancel."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from gateway.api import views
from gateway.api.openapi import job_body, responses
from gateway.api.problems import ProblemError, unprocessable
from gateway.api.services import Services, ServicesDependency
from gateway.ledger.queries import BadCursorError, Cursor, JobFilter, JobRecord
from schemas import JobStatus
from schemas.document import Fault
from schemas.message import Name

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MAX_WAIT_S = 60
MAX_PAGE = 1000


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Submit a job",
    openapi_extra=job_body(),
    responses=responses(
        *(400, 408, 409, 413, 415, 422, 503),
        ok="The same job, sent before",
        model=views.AcceptedView,
    ),
)
async def submit(
    request: Request,
    response: Response,
    services: ServicesDependency,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key and body give the same job, however often they are sent"),
    ] = None,
) -> views.AcceptedView:
    """Answers once Kafka has the job: it will be served, or answered with the reason why not."""
    async with services.bodies.json(request) as body:
        accepted = await services.submissions.submit(body, idempotency_key, request.headers)
    view = views.accepted(accepted.job)
    response.headers["Location"] = view.links.self
    if accepted.existed:
        response.status_code = HTTPStatus.OK
    return view


@router.get("/{job_id}", summary="Follow a job", responses=responses(404, 422, 503))
async def follow(
    job_id: UUID,
    services: ServicesDependency,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the job to end")
    ] = 0,
) -> views.JobView:
    """The job's state, deadlines, times, result and history."""
    if not wait:
        return await _view(job_id, services)
    await services.followers.wait(job_id, wait)
    async with services.followers.turn():
        return await _view(job_id, services)


@router.get("", summary="List jobs, the last published first", responses=responses(422, 503))
async def list_jobs(
    services: ServicesDependency,
    status: Annotated[
        list[JobStatus] | None, Query(description="Only jobs with one of these statuses")
    ] = None,
    qos: Annotated[Name | None, Query(description="Only jobs of this QoS class")] = None,
    tenant: Annotated[Name | None, Query(description="Only jobs of this tenant")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Jobs on a page")] = 50,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> views.JobList:
    """Pages are stable: jobs that are published meanwhile do not move the others."""
    after = _cursor(cursor)
    found = await services.ledger.list(JobFilter(status or (), qos, tenant), limit + 1, after)
    now = datetime.now(UTC)
    page = found[:limit]
    return views.JobList(
        jobs=[views.summary(job, now) for job in page],
        next_cursor=Cursor.after(page[-1]).encode() if len(found) > limit else None,
    )


@router.delete(
    "/{job_id}",
    status_code=HTTPStatus.ACCEPTED,
    summary="Cancel a job",
    responses=responses(404, 422, 503, ok="The job is over already", model=views.JobView),
)
async def cancel(job_id: UUID, services: ServicesDependency, response: Response) -> views.JobView:
    """Queued, parked or running: the job ends soon, and its status then says `cancelled`."""
    view = await _view(job_id, services)
    if view.status.is_open:
        await services.submissions.cancel(job_id)
    else:
        response.status_code = HTTPStatus.OK
    return view


async def _view(job_id: UUID, services: Services) -> views.JobView:
    record = await services.ledger.record(job_id)
    recent = services.submissions.recent(job_id)
    if recent is not None and (record is None or record.job.request is None):
        record = JobRecord(recent)
    if record is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"no job {job_id}; a job published to Kafka shows here a moment later",
            kind="job_not_found",
        )
    return views.detailed(record, datetime.now(UTC))


def _cursor(text: str | None) -> Cursor | None:
    try:
        return Cursor.decode(text) if text else None
    except BadCursorError as error:
        message = "not a cursor of this list; take next_cursor of the page before, unchanged"
        raise unprocessable(Fault("cursor", message)) from error
