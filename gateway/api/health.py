"""`/healthz` and `/readyz`."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

CHECK_TIMEOUT_S = 2.0
"""Probes have a timeout, often 3 s: the answer says before that which part is missing."""

PartName = Literal["kafka", "postgres", "ledger"]

Check = Callable[[], Coroutine[None, None, str | None]]
"""Returns what is missing, or None when nothing is."""


class Alive(BaseModel):
    status: str = "alive"


class Readiness(BaseModel):
    """Whether the gateway can do its work, part by part."""

    ready: bool
    parts: dict[str, str] = Field(
        description="Each part: ready, or what it waits for",
        examples=[{"kafka": "ready", "postgres": "ready", "ledger": "ready"}],
    )


class Health:
    """The parts that have to work for the gateway to be ready."""

    def __init__(self, checks: Mapping[PartName, Check]) -> None:
        self._checks = checks

    async def readiness(self, exclude: Collection[PartName] = ()) -> Readiness:
        """Asks all parts concurrently, except those in `exclude`."""
        names = [name for name in self._checks if name not in exclude]
        found = await asyncio.gather(*(_missing(self._checks[name]) for name in names))
        return Readiness(
            ready=not any(found),
            parts={name: what or "ready" for name, what in zip(names, found, strict=True)},
        )


async def _missing(check: Check) -> str | None:
    """What `check` returns; it is not waited for beyond CHECK_TIMEOUT_S, even to be cancelled."""
    checking = asyncio.create_task(check())
    checking.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({checking}, timeout=CHECK_TIMEOUT_S)
    if checking.done():
        return checking.result()
    checking.cancel()
    return "does not answer"


router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Alive:
    """Answers as long as the process runs, whatever else is missing."""
    return Alive()


@router.get(
    "/readyz",
    summary="Can the gateway do its work?",
    responses={503: {"model": Readiness, "description": "Not yet, or not now"}},
)
async def readyz(
    request: Request,
    response: Response,
    exclude: Annotated[
        list[PartName] | None, Query(description="Parts that do not count and are not asked")
    ] = None,
) -> Readiness:
    """Kafka takes jobs, Postgres answers, and the ledger follows the log.

    A load balancer should exclude `postgres` and `ledger`: jobs are taken without them, and another
    gateway could not answer from a Postgres that is away either.
    """
    health: Health = request.app.state.services.health
    readiness = await health.readiness(exclude or ())
    if not readiness.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return readiness
