"""`/v1/workers` and `/v1/pools`: who serves what, how busy, how far behind."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Response

from gateway.api import fleet_views
from gateway.api.openapi import responses
from gateway.api.services import ServicesDependency
from gateway.api.view import View
from gateway.fleet.fleet import WorkerState
from niyama.waiting import Turns
from schemas.message import Name

router = APIRouter(prefix="/v1", tags=["workers"])

MAX_WORKERS_LISTED = 1_000
MAX_POOLS_LISTED = 1_000
ADDED_UP_AT_ONCE = 100
"""Workers of pools, before anything else in this process has its turn: some 10 ms."""
SHOWN_AT_ONCE_BYTES = 64 * 1024
"""Of an answer, likewise."""


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
    listed = await _in_turns(map(fleet_views.worker, found[:limit]))
    following = services.fleet.following
    return _answer(
        fleet_views.WorkerList(workers=[], total=len(found), following=following), listed
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
    found, added_up, turns = fleet_views.by_pool(workers), [], Turns(ADDED_UP_AT_ONCE)
    for members in found[:limit]:
        added_up.append(fleet_views.pool(members))
        await turns.after(len(members))
    listed = await _in_turns(added_up)
    return _answer(fleet_views.PoolList(pools=[], total=len(found)), listed)


async def _in_turns(views: Iterable[View]) -> bytes:
    """Made as they are taken, and shown as the elements of a list in JSON."""
    shown, turns = [], Turns(SHOWN_AT_ONCE_BYTES)
    for view in views:
        shown.append(view.model_dump_json().encode())
        await turns.after(len(shown[-1]))
    return b",".join(shown)


def _answer(empty: View, listed: bytes) -> Response:
    """`empty`, whose first field is a list, with these elements in it.

    FastAPI would validate all of it once more.
    """
    before, after = empty.model_dump_json().encode().split(b"[]", 1)
    return Response(before + b"[" + listed + b"]" + after, media_type="application/json")
