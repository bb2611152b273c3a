"""`/v1/workers` and `/v1/pools`: who serves what, how busy, how far behind."""

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api import fleet_views
from gateway.api.openapi import responses
from gateway.api.services import ServicesDependency
from gateway.fleet.known import WorkerState
from schemas.message import Name

router = APIRouter(prefix="/v1", tags=["workers"])

MAX_WORKERS_LISTED = 1_000


@router.get("/workers", summary="Who serves what, and how busy", responses=responses(422))
async def workers(
    services: ServicesDependency,
    pool: Annotated[Name | None, Query(description="Only workers of this pool")] = None,
    state: Annotated[
        list[WorkerState] | None, Query(description="Only workers in one of these states")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_WORKERS_LISTED, description="Workers in the answer")
    ] = MAX_WORKERS_LISTED,
) -> fleet_views.WorkerList:
    """Every worker of every pool, as of its last report, which is about a second old.

    One that has stopped reporting is `gone`, and after five minutes forgotten.
    """
    found = [
        known
        for known in services.workers.all()
        if pool in (None, known.report.pool) and (not state or known.state in state)
    ]
    return fleet_views.WorkerList(
        workers=[fleet_views.worker(known) for known in found[:limit]],
        total=len(found),
        following=services.workers.following,
    )


@router.get("/pools", summary="Each pool's workers together", responses=responses(422))
async def pools(services: ServicesDependency) -> fleet_views.PoolList:
    """What each pool has, and has before it. Workers that are gone are counted, and not added."""
    return fleet_views.PoolList(pools=fleet_views.pools(services.workers.all()))
