"""`/healthz` and `/readyz`."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

Check = Callable[[], Awaitable[str | None]]
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

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    async def readiness(self) -> Readiness:
        missing = {name: await check() for name, check in self._checks.items()}
        return Readiness(
            ready=not any(missing.values()),
            parts={name: what or "ready" for name, what in missing.items()},
        )


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
async def readyz(request: Request, response: Response) -> Readiness:
    """Kafka answers, Postgres answers, and the ledger follows the log."""
    readiness: Readiness = await request.app.state.services.health.readiness()
    if not readiness.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return readiness
