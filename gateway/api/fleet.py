"""`/v1/workers` and `/v1/pools`: who serves what, how busy, how far behind."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from gateway.api import fleet_views
from gateway.api.openapi import responses
from gateway.api.services import ServicesDependency
from gateway.api.view import View
from gateway.fleet.fleet import WorkerState
from schemas.message import Name

router = APIRouter(prefix="/v1", tags=["workers"])

MAX_WORKERS_LISTED = 1_000
MAX_POOLS_LISTED = 1_000
ADDED_UP_AT_ONCE = 100
"""Workers, and pools, before anything else in this process has its turn: some 10 ms."""


@router.get(
    "/workers",
    summary="Who serves what, and how busy",
    response_model=fleet_views.WorkerList,
    responses=responses(422),
)
async def workers(
    services: ServicesDependency,
    pool: Annotated[Name | None, Query(description="Only workers of this pool")] = None,
    state: Annotated[
        list[WorkerState] | None, Query(description="Only workers in one of these states")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_WORKERS_LISTED, description="Workers in the answer")
    ] = MAX_WORKERS_LISTED,
) -> Response:
    """Every worker of every pool, as of its last report, which is about a second old.

    One that has stopped reporting is `gone`, and after five minutes forgotten.
    """
    found = [
        each
        for each in await services.fleet.in_turns()
        if pool in (None, each.report.pool) and (not state or each.state in state)
    ]
    listed = [fleet_views.worker(each) for each in found[:limit]]
    return _answer(
        fleet_views.WorkerList(workers=listed, total=len(found), following=services.fleet.following)
    )


@router.get(
    "/pools",
    summary="Each pool's workers together",
    response_model=fleet_views.PoolList,
    responses=responses(422),
)
async def pools(
    services: ServicesDependency,
    pool: Annotated[Name | None, Query(description="Only this pool")] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_POOLS_LISTED, description="Pools in the answer")
    ] = MAX_POOLS_LISTED,
) -> Response:
    """What each pool has, and has before it. Workers that are gone are counted, and not added."""
    workers = [each for each in await services.fleet.in_turns() if pool in (None, each.report.pool)]
    found, listed, added_up = fleet_views.by_pool(workers), [], 0
    for members in found[:limit]:
        listed.append(fleet_views.pool(members))
        added_up += len(members)
        if added_up >= ADDED_UP_AT_ONCE:
            added_up = 0
            await asyncio.sleep(0)
    return _answer(fleet_views.PoolList(pools=listed, total=len(found)))


def _answer(view: View) -> Response:
    """As it is: FastAPI would validate all of it once more."""
    return Response(view.model_dump_json(), media_type="application/json")
