"""``/v1/jobs``: submit, follow, list, cancel."""

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from gateway.api import views
from gateway.api.body import read_json_body
from gateway.api.openapi import job_body, responses
from gateway.api.problems import FieldError, ProblemError
from gateway.api.services import Services, ServicesDependency
from gateway.ledger.queries import BadCursorError, Cursor, JobFilter
from gateway.ledger.tables import OPEN_STATUSES
from schemas.message import Name

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

WAIT_INTERVAL_S = 0.1
MAX_WAIT_S = 60
MAX_PAGE = 1000


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Submit a job",
    openapi_extra=job_body(),
    responses=responses(
        *(400, 409, 413, 415, 422, 503), ok="The same job, sent before", model=views.AcceptedView
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
    """Answers once Kafka has the job: from then on it is served or answered, come what may."""
    body = await read_json_body(request)
    taken = await services.open_submissions.submit(body, idempotency_key, request.headers)
    response.headers["Location"] = views.links(taken.job_id).self
    if taken.existed:
        response.status_code = HTTPStatus.OK
    return views.accepted(taken.job_id, taken.job)


@router.get("/{job_id}", summary="Follow a job", responses=responses(404, 422, 503))
async def follow(
    job_id: UUID,
    services: ServicesDependency,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the job to end")
    ] = 0,
) -> views.JobView:
    """The job's state, deadlines, times, result and history."""
    deadline_s = asyncio.get_running_loop().time() + wait
    view = await _view(job_id, services)
    while view.status in OPEN_STATUSES and not services.stopping:
        if asyncio.get_running_loop().time() >= deadline_s:
            break
        await asyncio.sleep(WAIT_INTERVAL_S)
        row = await services.ledger.row(job_id)
        if row is not None and row.status not in OPEN_STATUSES:
            break
    else:
        return view
    return await _view(job_id, services)


@router.get("", summary="List jobs, the last published first", responses=responses(422, 503))
async def list_jobs(
    services: ServicesDependency,
    status: Annotated[
        list[views.Status] | None, Query(description="Only jobs with one of these statuses")
    ] = None,
    qos: Annotated[Name | None, Query(description="Only jobs of this QoS class")] = None,
    tenant: Annotated[Name | None, Query(description="Only jobs of this tenant")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Jobs on a page")] = 50,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> views.JobList:
    """Pages are stable: jobs that are published meanwhile do not move the others."""
    after = _cursor(cursor)
    rows = await services.ledger.list(JobFilter(status or (), qos, tenant), limit + 1, after)
    now = datetime.now(UTC)
    page = rows[:limit]
    more = len(rows) > limit
    return views.JobList(
        jobs=[views.summary(row, now) for row in page],
        next_cursor=Cursor(page[-1].arrived_at, page[-1].job_id).encode() if more else None,
    )


@router.delete(
    "/{job_id}",
    status_code=HTTPStatus.ACCEPTED,
    summary="Cancel a job",
    responses=responses(404, 422, 503, ok="The job is over already", model=views.JobView),
)
async def cancel(job_id: UUID, services: ServicesDependency, response: Response) -> views.JobView:
    """Queued, parked or running: the job is over soon, and its status then says so."""
    view = await _view(job_id, services)
    if view.status in OPEN_STATUSES:
        await services.open_submissions.cancel(job_id)
    else:
        response.status_code = HTTPStatus.OK
    return view


async def _view(job_id: UUID, services: Services) -> views.JobView:
    record = await services.ledger.job(job_id)
    now = datetime.now(UTC)
    recent = services.submissions.recent(job_id) if services.submissions else None
    if record is not None and (record.job.arrived_at or recent is None):
        return views.detailed(record, now)
    if recent is not None:
        return views.just_accepted(job_id, recent, now)
    raise ProblemError(
        HTTPStatus.NOT_FOUND,
        f"no job {job_id}; a job published to Kafka shows here a moment later",
        kind="job_not_found",
    )


def _cursor(text: str | None) -> Cursor | None:
    try:
        return Cursor.decode(text) if text else None
    except BadCursorError as error:
        message = "not a cursor of this list; take next_cursor of the page before, unchanged"
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"cursor: {message}",
            errors=[FieldError(where="cursor", message=message)],
        ) from error
