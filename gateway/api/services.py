"""What the endpoints work with."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from gateway.api.body import Bodies
from gateway.api.followers import Followers
from gateway.api.health import Health
from gateway.api.submissions import Submissions
from gateway.fleet.fleet import Fleet
from gateway.ledger.queries import Ledger
from niyama.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """Made once, before anything is connected: the API answers from the first moment."""

    health: Health
    ledger: Ledger
    submissions: Submissions
    followers: Followers
    metrics: Metrics
    fleet: Fleet = field(default_factory=Fleet)
    bodies: Bodies = field(default_factory=Bodies)


async def services_of(request: Request) -> Services:
    """A coroutine, though it waits for nothing: FastAPI runs plain functions in a thread."""
    services: Services = request.app.state.services
    return services


ServicesDependency = Annotated[Services, Depends(services_of)]
